"""The results of a run that is not finished: what is done, and what is put there, in a folder beside the target.

    .map.tif.unfinished/
        lock             held while a program is at work here
        journal          what the run depends on; each tile that is done, with its checksums
        class_map.raw    and a file for each further layer

Tiles come in any order, from wherever they were computed. A tile is done once its pixels and then its line in the
journal are on the disk; whatever was under way when the power went is done again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cssd_geo.errors import CssdGeoError, OutputError, SceneError, SceneOutOfReachError
from cssd_geo.files.outputs import free_space, sync
from cssd_geo.runs import journal
from cssd_geo.runs.locks import Lock
from cssd_geo.runs.raw_layers import RawLayer
from cssd_geo.runs.records import Key, TileRecord, head_of, recorded_plan, require_same, tiles_in
from cssd_geo.tiles import Tile, TilePlan, Window

_SYNC_SECONDS = 1.0
"""Results wait for the disk so long at most: all that a power cut costs, and little where tiles come quickly."""
_JOURNAL = "journal"
_STILL_OPEN = ".nfs"
"""Begins the names of files that were removed on NFS while some program had them open; they go with it."""


def folder_of(target: Path) -> Path:
    """Where the results of an unfinished run to this target lie."""
    return target.parent / f".{target.name}.unfinished"


def tiles_done(target: Path) -> int:
    """How many tiles of an unfinished run to a target its journal lists; 0 where there is none."""
    try:
        _, entries = journal.read(folder_of(target) / _JOURNAL)
    except OSError:
        return 0
    return tiles_in(entries)


class Unfinished:
    """The folder, locked; a context manager. Left with an error it stays if any tile is done, else it goes."""

    plan: TilePlan
    """That of the unfinished run, once it has begun."""

    def __init__(self, target: Path, layers: Mapping[str, RawLayer], *, guard: Callable[[], None]) -> None:
        """Describe it; nothing is touched before the `with` statement.

        Args:
            target: the file that the run is for.
            layers: by name; their files lie in `folder_of(target)`.
            guard: called before tiles are recorded; a SceneError says that no tile can be trusted any more, a
                SceneOutOfReachError that none can that is not recorded yet.
        """
        self.target, self.folder, self._layers, self._guard = target, folder_of(target), layers, guard
        self.head: journal.Entry = {}
        """The first line of the journal."""
        self.unreadable: set[Window] = set()
        """Blocks of the scene that tiles could not read."""
        self._tiles: dict[int, TileRecord] = {}
        self._pending: dict[int, TileRecord] = {}
        self._published: list[Any] = []
        self._keep = self._begun = False
        self._synced = time.monotonic()
        self._stack, self._files = ExitStack(), ExitStack()

    @property
    def done(self) -> frozenset[int]:
        """Indexes of the tiles that are recorded."""
        return frozenset(self._tiles)

    # ---- opening and closing

    def __enter__(self) -> Self:
        with self.failures("written"):
            if self.folder.is_symlink():
                raise OutputError(f"{self.folder} is a link, not a folder of an unfinished run: remove it")
            self.folder.mkdir(exist_ok=True)
            self._lock = Lock(self.folder / "lock", str(self.target))
        self._stack.callback(self._remove_folder)  # the last that goes: NFS keeps a lock's file while it is open
        self._stack.callback(self._lock.release)
        self._stack.enter_context(self._files)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if not self._lock.in_place():
                return
            with suppress(CssdGeoError):
                self.commit()
            if self._is_worthless():
                self.remove()
            elif error is not None and self._begun:
                error.add_note(f"{self.progress()}: the same command goes on from there.")

    def _is_worthless(self) -> bool:
        """Whether the folder holds nothing that a later run could go on with."""
        if not self._begun:  # what an earlier program has left stays
            return not self._journal_path.exists()
        return not self._keep or not self._tiles

    def begin(
        self, key: Key | None, plan: TilePlan, *, restart: bool = False, about: Mapping[str, Any] | None = None
    ) -> None:
        """Go on with what is there, if it has the same key; else begin.

        Args:
            key: what the pixels depend on; None if that cannot be told: then nothing is kept or gone on with, and
                what is there of a run that can be told is refused.
            plan: of the tiles; an unfinished run keeps its own, see `plan`.
            restart: discard what is there.
            about: further plain values for the head.

        Raises:
            OutputError: if what is there has another key or a damaged journal, or nothing can be written.
        """
        with self.failures("written"):
            head, entries = journal.read(self._journal_path) if self._journal_path.exists() else (None, [])
            known = key is not None or (head is not None and head.get("key"))
            goes_on = bool(entries) and bool(known) and not restart
            if goes_on:
                self.head = require_same(head, key or {}, self._journal_path, self.target, tiles_in(entries))
                self.plan = recorded_plan(self.head, plan, self._journal_path)
            else:
                self._remove_results()
                self.head, self.plan = head_of(key, plan, about or {}), plan
                journal.create(self._journal_path, self.head)
            for layer in self._layers.values():
                self._files.enter_context(layer)
            self._journal = self._files.enter_context(journal.Journal(self._journal_path))
            for folder in (self.folder, self.target.parent):
                sync(folder)
            if goes_on:
                self._take(entries)
        self._keep, self._begun = key is not None, True

    def remove(self) -> None:
        """Remove all that is in the folder, the journal first: without it nothing is there. The folder goes last.

        What cannot be removed stays and is no error, as nothing hangs on it any more: the outputs are whole, or
        nothing is worth keeping. The next run to the same target takes the folder for what it is.
        """
        with suppress(OSError):
            self._files.close()
            self._remove_results()
            (self.folder / "lock").unlink()

    # ---- tiles

    def put(self, tile: Tile, parts: Mapping[str, NDArray[Any]], *, unreadable: Sequence[Window] = ()) -> None:
        """Take the results of a tile; within a second, or at `commit`, it is recorded as done.

        Args:
            tile: of the plan; any order.
            parts: (band, y, x), or (y, x), of each layer.
            unreadable: blocks that touch what the tile has read, and could not be read.

        Raises:
            OutputError: if the disk does not take them, or the folder is gone.
            SceneError: if the guard says so.
        """
        with self.failures("written"):
            checksums = {part: layer.write(parts[part], tile) for part, layer in self._layers.items()}
        self._pending[tile.index] = TileRecord(index=tile.index, checksums=checksums, unreadable=unreadable)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Record as done what has been put; raises as `put` does."""
        if not self._pending:
            return
        self._check()
        with self.failures("written"):
            for layer in self._layers.values():
                layer.sync()
            self._journal.append(record.line() for record in self._pending.values())
        self._note(self._pending.values())
        self._pending.clear()
        self._synced = time.monotonic()

    def read(self, part: str, window: Window) -> NDArray[Any]:
        """Read (band, y, x) of a layer, zeros where nothing was put.

        Raises:
            OutputError: if it cannot be read.
        """
        layer = self._layers[part]
        found = np.zeros((layer.bands, window.height, window.width), layer.dtype)
        with self.failures("read back"):
            for tile in self.plan.meeting(window):
                rows, cols = window.slices_in(tile.core)
                found[:, *tile.core.slices_in(window)] = layer.read(tile, rows)[..., cols]
        return found

    def require_whole(self, guard: Callable[[], None] | None = None) -> None:
        """Check that all tiles are done, and that the disk has kept them; `guard` takes a last, longer look.

        Raises:
            OutputError: if not; those that it lost are done no more.
            SceneError: if the guard says so.
        """
        self.commit()
        self._check(guard)
        with self.failures("read back"):
            self._tiles = {index: record for index, record in self._tiles.items() if self._is_kept(record)}
        if len(self._tiles) < len(self.plan):
            raise OutputError(f"{self.target} cannot be finished: the disk did not keep what was written to it")

    def progress(self) -> str:
        """Say how much is done."""
        return f"{len(self._tiles)} of {len(self.plan)} tiles are done"

    # ---- targets

    def publishes(self, files: Iterable[Path]) -> None:
        """Record finished files that are about to become targets, so that whoever goes on knows them as its own.

        Raises:
            OutputError: if the disk does not take it.
        """
        identities = [_identity(file) for file in files]
        with self.failures("written"):
            self._journal.append([{"publishes": identities}])

    def owns(self, path: Path) -> bool:
        """Whether a file that is there was published by this very run, before it was ended."""
        try:
            return _identity(path) in self._published
        except OSError:  # a link that leads nowhere
            return False

    @contextmanager
    def failures(self, verb: str) -> Iterator[None]:
        """Turn what the system reports into an error that names the target and the space left."""
        try:
            yield
        except CssdGeoError:
            raise
        except OSError as error:
            place = f": {error.filename}" if error.filename else ""
            reason = f"{error.strerror or error}{place} ({free_space(self.target.parent)})"
            raise OutputError(f"{self.target} cannot be {verb}: {reason}") from error

    # ---- helpers

    @property
    def _journal_path(self) -> Path:
        return self.folder / _JOURNAL

    def _take(self, lines: Sequence[journal.Entry]) -> None:
        """Take what an earlier program has recorded, where the disk has kept it."""
        found = (TileRecord.of(line, self.plan) for line in lines)
        latest = {record.index: record for record in found if record is not None}
        self._note(record for record in latest.values() if self._is_kept(record))
        for line in lines:
            if isinstance(line.get("publishes"), list):
                self._published += line["publishes"]

    def _note(self, records: Iterable[TileRecord]) -> None:
        for record in records:
            self._tiles[record.index] = record
            self.unreadable.update(record.unreadable)

    def _is_kept(self, record: TileRecord) -> bool:
        tile = self.plan[record.index]
        return {part: layer.checksum(tile) for part, layer in self._layers.items()} == record.checksums

    def _check(self, guard: Callable[[], None] | None = None) -> None:
        if not self._lock.in_place():
            raise OutputError(
                f"{self.folder} has been removed or moved while tiles were written to it: start again"
            )
        try:
            (guard or self._guard)()
        except SceneOutOfReachError:
            self._pending.clear()
            raise
        except SceneError:
            self._keep = False
            raise

    def _remove_results(self) -> None:
        self._journal_path.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if path.name != "lock" and not path.name.startswith(_STILL_OPEN):
                path.unlink()

    def _remove_folder(self) -> None:
        with suppress(OSError):  # it is not empty, or another program has come in
            self.folder.rmdir()


def _identity(file: Path) -> list[int]:
    """What a file keeps when it is renamed and no other one has: size and nanosecond of its last change."""
    found = file.stat()
    return [found.st_size, found.st_mtime_ns]
