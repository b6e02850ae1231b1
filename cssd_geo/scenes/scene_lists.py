"""Which scenes a batch has: paths, patterns, text lists, STAC items; each once, in an order that jobs share."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cssd_geo.errors import InputError, SceneError
from cssd_geo.files.locations import file_name, is_address, is_there, local_path
from cssd_geo.files.outputs import GEOTIFF
from cssd_geo.files.rasters import open_raster
from cssd_geo.maps.layer import MODEL_TAG
from cssd_geo.messages import listed, without_secrets
from cssd_geo.options import true_or_false, whole_number
from cssd_geo.scenes.stac import is_stac, read_items

_BESIDE_A_SCENE = (".hdr", ".aux.xml", ".ovr", ".msk", ".tfw", ".prj", ".enp")
"""Ends of the names of files that stand beside a raster: a pattern such as `*` finds them too."""
_NO_SHARD = "is not I/N with I from 1 to N: the second of eight jobs is 2/8"
_MOST_LINES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class ListedScene:
    """One scene of a batch."""

    name: str
    """What its outputs are named after."""
    path: str
    """Path or address of the raster."""

    @property
    def shown(self) -> str:
        """The path as it may be kept or passed on: an address may hold a signature or a password."""
        return without_secrets(self.path) if is_address(self.path) else self.path


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of several jobs that share a list without talking to each other: each takes every `of`-th scene."""

    number: int
    """From 1."""
    of: int

    def __post_init__(self) -> None:
        for name in ("number", "of"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        if not 1 <= self.number <= self.of:
            raise InputError(f"shard {self.number}/{self.of} {_NO_SHARD}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "2/8".

        Raises:
            InputError: if it is not of that form, or the number is not from 1 to the count.
        """
        number, slash, of = text.partition("/")
        if not (slash and number.isdecimal() and of.isdecimal()):
            raise InputError(f"shard {text!r} {_NO_SHARD}")
        return cls(number=int(number), of=int(of))

    def pick(self, scenes: Sequence[ListedScene]) -> list[ListedScene]:
        """Return this job's scenes; those of all jobs together are all, none twice."""
        return list(scenes[self.number - 1 :: self.of])


def find_scenes(
    given: str | Path | Iterable[str | Path],
    *,
    asset: str | None = None,
    follow_links: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> list[ListedScene]:
    """Find all scenes of a batch, each once, in the order of their names.

    What `classify` wrote is no scene: where a pattern finds such rasters beside scenes they are left out.

    Args:
        given: paths; patterns with *, ? or ** (quoted, so that the shell leaves them alone); STAC items or
            collections of them (.json); and @FILE for a text file with one of these a line, as seen from its
            folder. There, lines that begin with # do not count.
        asset: key of the asset to take of STAC items; needed where there are several rasters.
        follow_links: take STAC assets that lie outside of the item's folder, or on a server.
        on_note: called with a sentence for the analyst, where something was left out.

    Raises:
        InputError: if nothing is found, two scenes would have outputs of the same name, or something given is no
            path.
        SceneError: if a list or an item cannot be read.
    """
    true_or_false("follow_links", follow_links)
    note = on_note or (lambda _: None)
    scenes: dict[str, ListedScene] = {}
    for path in _paths(_texts(given), note):
        for scene in _scenes_of(path, asset=asset, follow_links=follow_links):
            scenes.setdefault(_place(scene.path), scene)
    found = sorted(scenes.values(), key=lambda scene: (scene.name, scene.path))
    if not found:
        raise InputError("no scene to classify: give paths, patterns, STAC items or @LIST")
    twice = [name for name, count in Counter(scene.name for scene in found).items() if count > 1]
    if twice:
        where = listed(scene.path for scene in found if scene.name == twice[0])
        raise InputError(
            f"maps are named after their scenes, and {twice[0]!r} is the name of several ({where}): run them "
            "apart, each into a folder of its own"
        )
    return found


def _texts(given: str | Path | Iterable[str | Path]) -> Iterator[str]:
    several = given if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    for path in several:
        if not isinstance(path, str | Path):
            raise InputError(f"scenes of a batch are given by their paths, not as {type(path).__name__}")
        yield str(path)


def _place(path: str) -> str:
    """What tells scenes apart: the same for all paths of a file; a part of one, or an address, as it was given."""
    return os.path.realpath(path) if local_path(path) == Path(path) else path


def _paths(given: Iterable[str], note: Callable[[str], None]) -> Iterator[str]:
    for text in given:
        if text.startswith("@"):
            yield from _paths(_lines(Path(text[1:])), note)
        elif is_there(text) or not glob.has_magic(text) or "://" in text:
            yield text
        else:
            found = sorted(glob.glob(text, recursive=True))  # noqa: PTH207 - Path.glob wants a folder to begin in
            files = [path for path in found if not path.lower().endswith(_BESIDE_A_SCENE)]
            if not files:
                raise InputError(f"no file is named like {text!r}: check the pattern and the folder")
            yield from _without_our_own(files, text, note)


def _without_our_own(files: list[str], pattern: str, note: Callable[[str], None]) -> list[str]:
    """Leave out maps, confidences and so on that were written beside scenes."""
    ours = dict.fromkeys(path for path in files if _is_our_own(path))  # 10,000 at times, so no list
    if len(ours) == len(files):
        raise InputError(
            f"{pattern!r} names rasters that cssd-geo wrote ({listed(ours)}), and no scene: name the scenes"
        )
    if ours:
        note(f"Rasters that cssd-geo wrote are no scenes and were left out: {listed(ours)}.")
    return [path for path in files if path not in ours]


def _is_our_own(path: str) -> bool:
    if not path.lower().endswith(GEOTIFF) or not Path(path).is_file():
        return False
    try:
        with open_raster(path) as dataset:
            return MODEL_TAG in dataset.tags()
    except SceneError:  # what is wrong with it is said when it is its turn
        return False


def _lines(path: Path) -> list[str]:
    """Paths in a list, as seen from where it lies. A list does not refer to other lists."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SceneError(f"the list of scenes {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SceneError(f"the list of scenes {path} is not UTF-8 text, a path a line: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) > _MOST_LINES or any(line.startswith("@") or "\0" in line for line in lines):
        raise SceneError(f"{path} is no list of scenes: one path a line, at most {_MOST_LINES:,}, none with @")
    return [line if "://" in line else str(path.parent / line) for line in lines]


def _scenes_of(path: str, *, asset: str | None, follow_links: bool) -> list[ListedScene]:
    if is_stac(path):
        found = read_items(path, asset=asset, follow_links=follow_links)
        return [ListedScene(name=name, path=place) for name, place in found]
    return [ListedScene(name=Path(file_name(path)).stem, path=path)]
