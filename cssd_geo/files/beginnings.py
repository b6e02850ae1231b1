"""The first bytes of files, by which formats are known."""

from pathlib import Path


def read_start(path: Path, count: int) -> bytes:
    """Return so many bytes at most; none of what is no file, or cannot be read."""
    try:
        if not path.is_file():  # opening a pipe would wait for its writer
            return b""
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""
