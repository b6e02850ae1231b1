"""One writer at a time: a lock that the system lets go of, however its holder ends."""

import errno
import fcntl
import os
import socket
from pathlib import Path

from cssd_geo.errors import OutputError

_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""How file systems say that they have no locks; then there is none, and whoever starts two runs must know."""


class Lock:
    """A locked file. Not blocking: whoever comes second is told who came first."""

    def __init__(self, path: Path, what: str) -> None:
        """Make and lock a file.

        Args:
            path: of the file; its folder exists.
            what: the work that it stands for, for errors.

        Raises:
            OutputError: if another program holds the lock.
            OSError: if the file cannot be made.
        """
        self._path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            self._acquire(what)
        except BaseException:
            os.close(self._handle)
            raise

    def _acquire(self, what: str) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._handle, 200, 0).decode(errors="replace") or "it does not say which"
            raise OutputError(
                f"{what} is being written by another program ({holder}): wait for it, end it, "
                "or choose another output"
            ) from error
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
        if not self.in_place():
            raise OutputError(
                f"{what} was being finished by another program at this moment: look at it, and try again"
            )
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)

    def in_place(self) -> bool:
        """Whether the file still is where it was made."""
        try:
            there, ours = self._path.stat(), os.fstat(self._handle)
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def release(self) -> None:
        """Let go; the file stays."""
        os.close(self._handle)
