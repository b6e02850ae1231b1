"""What tells one file, or folder, from another: by content, not by name or time, and quick for any size."""

import hashlib
from pathlib import Path

_PIECES = 64
"""Pieces of a file, or of the files of a folder, that are read; they are spread over it."""
_PIECE = 1 << 20
"""Bytes of a piece."""


def fingerprint(path: str | Path) -> str:
    """SHA-256 of a file's size and of up to 64 pieces of 1 MiB spread over it: quick for files of any size.

    Of a folder, such as a Zarr store: of the names and sizes of its files, and of 64 such pieces of files that are
    spread over them.

    Raises:
        OSError: if it cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir():
        return _of_file(folder, _PIECES)
    files = files_in(folder)
    named = [f"{file.relative_to(folder).as_posix()} {file.stat().st_size}" for file in files]
    some = looked_into(files)
    read = [_of_file(file, pieces) for file, pieces in zip(some, _shares(some), strict=True)]
    return hashlib.sha256("\n".join(named + read).encode()).hexdigest()


def looked_into(files: list[Path]) -> list[Path]:
    """The files among those of `files_in` whose content a fingerprint reads: some, spread over all."""
    return files[:: -(-len(files) // _PIECES) or 1]


def files_in(path: Path) -> list[Path]:
    """All files of a folder and of those in it; of a file itself alone."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _shares(files: list[Path]) -> list[int]:
    """Pieces of each file: one, and more of larger ones."""
    sizes = [file.stat().st_size for file in files]
    return [1 + (_PIECES - len(files)) * size // max(1, sum(sizes)) for size in sizes]


def _of_file(path: Path, pieces: int) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    starts = sorted({round(i * max(size - _PIECE, 0) / max(1, pieces - 1)) for i in range(pieces)})
    with path.open("rb") as file:
        for start in starts:
            file.seek(start)
            digest.update(file.read(_PIECE))
    return digest.hexdigest()
