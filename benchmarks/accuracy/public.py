"""Public benchmark scenes, fetched once from the group that keeps them, and checked for what they are known as.

The group publishes no checksums. Files that we have seen must have the SHA-256 that they had then. Every scene
must have the size and the number of labelled pixels that the literature gives, and the SHA-256 of what came is
printed, to compare with somebody else's.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import pooch

HOME = "https://www.ehu.eus/ccwintco/uploads"
"""Grupo de Inteligencia Computacional, Universidad del País Vasco: Hyperspectral Remote Sensing Scenes."""


class PublicSceneError(Exception):
    """A public scene cannot be had."""


@dataclass(frozen=True, kw_only=True)
class PublicScene:
    """Where a scene is kept, and what it is known as."""

    cube: str
    truth: str
    folders: tuple[str, str]
    """Of cube and truth, under `HOME`."""
    shape: tuple[int, int, int]
    """(y, x, S)."""
    labelled: int
    """Pixels with a class."""
    checksums: tuple[str | None, str | None] = (None, None)
    """SHA-256 of cube and truth; None where we have not seen the file."""


PUBLIC = {
    "indian_pines": PublicScene(
        cube="Indian_pines_corrected.mat",
        truth="Indian_pines_gt.mat",
        folders=("6/67", "c/c4"),
        shape=(145, 145, 200),
        labelled=10_249,
        checksums=(
            "ec2f8808710919d566f70f0d4aa885aae1ddfd42b734aba71c5e12ca65450939",
            "65c4687a8ab04f6da4789799bc3bc4f6e88bccac3ed6a2e6ae367e5e6b9e429c",
        ),
    ),
    "pavia_university": PublicScene(
        cube="PaviaU.mat",
        truth="PaviaU_gt.mat",
        folders=("e/ee", "5/50"),
        shape=(610, 340, 103),
        labelled=42_776,
    ),
    "salinas": PublicScene(
        cube="Salinas_corrected.mat",
        truth="Salinas_gt.mat",
        folders=("a/a3", "f/fa"),
        shape=(512, 217, 204),
        labelled=54_129,
    ),
}


def fetch_scene(name: str, folder: Path, home: str = HOME) -> None:
    """Download those files of a scene that are not in the folder yet.

    Raises:
        PublicSceneError: if that fails; what is half there is removed.
    """
    scene = PUBLIC[name]
    logging.getLogger("pooch").setLevel(logging.WARNING)
    for file, place, checksum in zip((scene.cube, scene.truth), scene.folders, scene.checksums, strict=True):
        if (folder / file).is_file():
            continue
        url = f"{home}/{place}/{file}"
        try:
            pooch.retrieve(url, known_hash=checksum, fname=file, path=folder)
        except ValueError as error:
            raise PublicSceneError(
                f"{url} is not the file that it was, and was not kept ({error}). If you trust it, put it into "
                f"{folder.absolute()} by hand"
            ) from error
        except OSError as error:
            raise PublicSceneError(
                f"{url} cannot be fetched ({error}): without a network, or if the file has moved, put it into "
                f"{folder.absolute()} by hand"
            ) from error
        print(f"{folder / file}: SHA-256 {pooch.file_hash(str(folder / file))}")


def check(name: str, shape: tuple[int, ...], labelled: int) -> None:
    """Compare with what the scene is known as.

    Raises:
        PublicSceneError: if it is another one.
    """
    known = PUBLIC[name]
    if (shape, labelled) != (known.shape, known.labelled):
        raise PublicSceneError(
            f"{known.cube} and {known.truth} are not {name} as it is known: {shape} with {labelled:,} labelled "
            f"pixels instead of {known.shape} with {known.labelled:,}. Remove them and fetch them again, or leave "
            "out --fetch"
        )
