"""An output is whole or absent: checked before any work, written beside its target, renamed at the end."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cssd_geo.errors import OutputError

GEOTIFF = (".tif", ".tiff")
_LONGEST_NAME = 200
"""Bytes of a file's name: file systems take 255, and temporary names add to the final one."""


def check_target(
    path: Path, *, overwrite: bool, suffixes: tuple[str, ...], inputs: Iterable[str | Path | None] = ()
) -> None:
    """Refuse, before any work, a target that could not be written or must not be.

    Args:
        path: of the target.
        overwrite: whether it may exist.
        suffixes: one of which its name must end in.
        inputs: files that the work reads, as far as there are any: none of them is ever replaced.

    Raises:
        OutputError: if its name ends otherwise, it is an input, it exists and `overwrite` is false, or no file can
            be made there.
    """
    if len(os.fsencode(path.name)) > _LONGEST_NAME:
        raise OutputError(f"{path} has a name of more than {_LONGEST_NAME} bytes: choose a shorter one")
    if path.is_dir():
        raise OutputError(f"{path} is a folder: name a file, for example {path / ('result' + suffixes[0])}")
    if path.suffix.lower() not in suffixes:
        raise OutputError(f"{path} does not end in {suffixes[0]}: name it {path.stem}{suffixes[0]}")
    if os.path.realpath(path) in {os.path.realpath(file) for file in inputs if file is not None}:
        raise OutputError(f"{path} is read here and would be replaced by what is made of it: choose another name")
    if os.path.lexists(path) and not overwrite:
        raise OutputError(f"{path} exists: choose another name, or replace it with --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}; create it first")
    try:  # permission bits do not tell about read-only disks, quotas or the administrator; a file does
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {path.parent} takes no new file ({error})") from error


def make_folder(folder: Path) -> None:
    """Make a folder for outputs, and those that it lies in, where they are not there.

    Raises:
        OutputError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise OutputError(f"the folder {folder} cannot be made: {reason}; choose another one") from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; an older one stays until then.

    Raises:
        OutputError: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        partial.write_bytes(data)
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; {free_space(path.parent)}") from error
    finally:
        with suppress(OSError):  # there is nothing to remove where it was never made
            partial.unlink()


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk and would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_space(folder: Path) -> str:
    """Say how much room a folder has left, for the message of a failed write."""
    if not folder.is_dir():
        return f"there is no folder {folder}"
    free = shutil.disk_usage(folder).free / 1e6
    return f"{free:.0f} MB are free in {folder}"
