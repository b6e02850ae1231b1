"""Bands picked by hand: what is written is what is chosen, in its order, and everything else is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from hypothesis import given
from hypothesis import strategies as st
from scenes import coordinate_cube, random_model, write_raster

import cssd_geo
from cssd_geo.bands import Bands
from cssd_geo.errors import InputError
from cssd_geo.products import open_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.spectra.band_choice import choose_bands, ranges
from cssd_geo.tiles import Window

UNKNOWN = Bands(good=(True,) * 12)
DETECTORS = Bands(good=(True,) * 6, wavelength_nm=(500.0, 900.0, 990.0, 960.0, 1000.0, 2400.0))
"""Two detectors that overlap, as real ones do: not ascending."""


@given(st.lists(st.integers(1, 300), min_size=1, unique=True))
def test_ranges_are_a_choice_of_the_same_bands_in_the_same_order(numbers: list[int]) -> None:
    bands = Bands(good=(True,) * 300)
    assert (choose_bands(ranges(numbers), bands) + 1).tolist() == numbers
    assert (choose_bands(numbers, bands) + 1).tolist() == numbers


@pytest.mark.parametrize(
    ("choice", "indexes"),
    [
        ("1-3,6, 5 - 5", [0, 1, 2, 5, 4]),
        ("450-950nm", [0, 1]),
        ("0.95-1.0um", [2, 3, 4]),
        ("950 nm - 1.0 µm, 1", [2, 3, 4, 0]),
        ("2400-2400NM,0.5um-0.5um", [5, 0]),
        ("0.9-0.99μm", [1, 2, 3]),
    ],
)
def test_numbers_and_wavelengths(choice: str, indexes: list[int]) -> None:
    assert choose_bands(choice, DETECTORS).tolist() == indexes


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("", "'' is neither a band nor a range"),
        ("1,,2", "'' is neither a band nor a range"),
        ("3-1", "'3-1' runs backwards: write 1-3"),
        ("900-450nm", "runs backwards"),
        ("0", "no band 0; the scene has bands 1 to 6"),
        ("4-7", "no band 7; the scene has bands 1 to 6$"),
        ("450-950", "no band 450; the scene has bands 1 to 6; for wavelengths write 450-950nm$"),
        ("1-3,2", "band 2 is chosen more than once"),
        ("450-950nm,2", "band 2 is chosen more than once"),
        ("600-700nm", "no band has its centre in '600-700nm'; the scene's lie at 500 to 2400 nm"),
        ("860nm", "'860nm' is neither"),
        ("1-", "'1-' is neither"),
        ("-1", "'-1' is neither"),
        ("1.5", "'1.5' is neither"),
        ("red", "'red' is neither"),
        ("٣", "'٣' is neither"),
        ("9" * 30, "is neither"),
        ([], "no band is chosen"),
        ([1, 1], "band 1 is chosen more than once"),
        ([0], "no band 0"),
    ],
)
def test_what_is_no_choice_is_refused(choice: str | Sequence[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_bands(choice, DETECTORS)


def test_wavelengths_are_no_numbers_of_bands() -> None:
    with pytest.raises(InputError, match=r"each of bands must be a whole number, not 1\.7"):
        choose_bands([1.7, 2.9], DETECTORS)  # type: ignore[list-item]


@given(st.text(alphabet="0123456789-,. nmuµNM٣") | st.text())
def test_any_text_is_a_choice_of_bands_or_a_clear_refusal(text: str) -> None:
    try:
        indexes = choose_bands(text, DETECTORS).tolist()
    except InputError:
        return
    assert len(set(indexes)) == len(indexes) > 0
    assert set(indexes) <= set(range(6))


def test_wavelengths_of_a_scene_without_any_are_refused() -> None:
    with pytest.raises(InputError, match="those of the scene are not known: count bands"):
        choose_bands("450-900nm", UNKNOWN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six bands with all that a band can have of its own."""
    path = write_raster(tmp_path / "scene.tif", coordinate_cube(6, 5, 7))
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = [1e-4 * (i + 1) for i in range(6)], [float(i) for i in range(6)]
        dataset.update_tags(ns="ENVI", wavelength="{400,500,600,700,800,900}", fwhm="{1,2,3,4,5,6}")
        dataset.update_tags(ns="ENVI", bbl="{1,1,0,1,1,1}")
    return path


def test_the_scene_consists_of_the_chosen_bands_with_all_that_is_theirs(path: Path) -> None:
    whole, some = open_scene(path), open_scene(path, bands="5,2-3")
    order = [4, 1, 2]
    window = Window(row=-1, col=2, height=4, width=9)
    np.testing.assert_array_equal(some.read(window, np.arange(3))[0], whole.read(window, np.array(order))[0])
    np.testing.assert_array_equal(some.cube, whole.cube.isel(band=order))
    assert some.bands == Bands(
        good=(True, True, False), wavelength_nm=(800.0, 500.0, 600.0), fwhm_nm=(5.0, 2.0, 3.0)
    )
    np.testing.assert_array_equal(some.scale, whole.scale[order])
    np.testing.assert_array_equal(some.offset, whole.offset[order])
    assert some.band_numbers.tolist() == [5, 2, 3]
    assert "Bands chosen by hand: 5, 2-3 (3 of 6)." in some.notes
    again = scene_of_array(some.cube)
    assert again.bands == some.bands
    np.testing.assert_array_equal(again.scale, some.scale)


@pytest.mark.filterwarnings("ignore:(Scales|Offsets) differ across bands")
def test_lists_of_scales_that_rioxarray_gives_follow_too(path: Path) -> None:
    with rioxarray.open_rasterio(path) as array:
        scene = scene_of_array(array).take_bands(np.array([3, 0]), "")
        np.testing.assert_allclose(scene_of_array(scene.cube).scale, [4e-4, 1e-4])


def test_chosen_bands_stand_for_the_model_s_in_their_order(tmp_path: Path) -> None:
    random, model = np.random.default_rng(0), random_model(bands=4)
    cube = random.uniform(500, 3000, (7, 20, 23)).astype(np.float32)
    all_bands = write_raster(tmp_path / "all.tif", cube, nodata=-1)
    four = write_raster(tmp_path / "four.tif", cube[[6, 2, 3, 0]], nodata=-1)
    cssd_geo.classify(open_scene(all_bands, bands="7,3-4,1"), model, tmp_path / "chosen.tif")
    cssd_geo.classify(four, model, tmp_path / "map.tif")
    with rasterio.open(tmp_path / "chosen.tif") as chosen, rasterio.open(tmp_path / "map.tif") as expected:
        np.testing.assert_array_equal(chosen.read(1), expected.read(1))
        assert len(np.unique(expected.read(1))) > 1
