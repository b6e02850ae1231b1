"""Which bands of a scene become a model's: one to one where they are the same, resampled or refused where not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensors import ENMAP, HYMAP

from cssd_geo.bands import Bands
from cssd_geo.errors import SceneError
from cssd_geo.products import open_scene
from cssd_geo.spectra.alignment import Alignment, align
from cssd_geo.spectra.resampling import MATCH_TOLERANCE_NM, centres, widths


def bands(*wavelength_nm: float, good: tuple[bool, ...] | None = None, fwhm_nm: float | None = None) -> Bands:
    return Bands(
        good=good or (True,) * len(wavelength_nm),
        wavelength_nm=wavelength_nm,
        fwhm_nm=None if fwhm_nm is None else (fwhm_nm,) * len(wavelength_nm),
    )


def unknown(count: int) -> Bands:
    return Bands(good=(True,) * count)


def picked(of: Bands, order: list[int]) -> Bands:
    """Some bands in another order."""
    return Bands(
        good=tuple(of.good[i] for i in order),
        wavelength_nm=tuple(centres(of)[order].tolist()),
        fwhm_nm=None if of.fwhm_nm is None else tuple(widths(of)[order].tolist()),
    )


def assert_one_to_one(found: Alignment, expected: list[int]) -> None:
    assert found.exact
    assert found.bands.tolist() == expected
    np.testing.assert_array_equal(found.weights, np.eye(len(expected)))


MODEL = bands(460.0, 500.0, 600.0, good=(True, False, True))


@pytest.mark.parametrize(
    "scene",
    [MODEL, bands(460.0 + MATCH_TOLERANCE_NM, 900.0, 600.0), unknown(3)],
    ids=["the same", "within the tolerance where it counts", "wavelengths unknown"],
)
def test_as_many_bands_that_no_wavelength_speaks_against_are_taken_by_position(scene: Bands) -> None:
    found = align(scene, MODEL, "s.tif")
    assert_one_to_one(found, [0, 2])
    assert found.notes == ()


def test_a_model_without_wavelengths_takes_bands_by_position() -> None:
    assert_one_to_one(align(bands(1.0, 2.0, 3.0), unknown(3), "s.tif"), [0, 1, 2])


@given(seed=st.integers(0, 999), known=st.booleans())
def test_the_same_bands_are_found_in_any_order_and_among_others(seed: int, *, known: bool) -> None:
    """Overlapping detectors as well, whose bands may be nearer to each other than to themselves a year ago."""
    sensor = ENMAP if known else Bands(good=ENMAP.good, wavelength_nm=ENMAP.wavelength_nm)
    random = np.random.default_rng(seed)
    chosen = np.flatnonzero(random.random(len(sensor)) < 0.7).tolist()
    order = random.permutation(len(sensor)).tolist()
    found = align(picked(sensor, order), picked(sensor, chosen), "s.tif")
    assert_one_to_one(found, [order.index(i) for i in chosen])
    assert found.notes == (f"The model's {len(chosen)} bands were found among the 219 of s.tif by wavelength.",)


def test_two_bands_at_one_wavelength_are_told_apart_by_their_width() -> None:
    model = Bands(good=(True,) * 3, wavelength_nm=(500.0, 900.0, 900.0), fwhm_nm=(8.0, 8.0, 10.0))
    scene = Bands(good=(True,) * 4, wavelength_nm=(900.0, 900.0, 700.0, 500.0), fwhm_nm=(10.0, 8.0, 8.0, 8.0))
    assert_one_to_one(align(scene, model, "s.tif"), [3, 1, 0])


def test_two_bands_at_one_wavelength_without_widths_are_told_apart_by_their_order() -> None:
    scene = bands(400.0, 500.0, 600.0, 600.0, 700.0)
    assert_one_to_one(align(scene, bands(500.0, 600.0, 600.0, 700.0), "s.tif"), [1, 2, 3, 4])


@pytest.mark.parametrize(("of_scene", "of_model"), [(None, 30.0), (30.0, None)])
def test_bands_whose_widths_only_one_side_knows_are_found_by_wavelength(
    of_scene: float | None, of_model: float | None
) -> None:
    scene = bands(*range(500, 600, 10), fwhm_nm=of_scene)
    assert_one_to_one(align(scene, bands(*range(520, 580, 10), fwhm_nm=of_model), "s.tif"), [2, 3, 4, 5, 6, 7])


def test_more_or_fewer_bad_bands_do_not_matter_where_the_model_does_not_use_them() -> None:
    nm = tuple(range(500, 600, 10))
    good = tuple(i not in (2, 3) for i in range(10))
    model, fewer = bands(*nm, good=good), bands(*nm, good=tuple(i != 2 for i in range(10)))
    assert_one_to_one(align(fewer, model, "s.tif"), [0, 1, 4, 5, 6, 7, 8, 9])


def test_a_bad_band_is_made_of_its_neighbours() -> None:
    nm = tuple(range(500, 600, 10))
    scene = bands(*nm, good=tuple(i != 4 for i in range(10)), fwhm_nm=11.0)
    found = align(scene, bands(*nm, fwhm_nm=11.0), "s.tif")
    assert not found.exact
    assert found.bands.tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(found.weights[4], [0, 0, 0, 0.5, 0.5, 0, 0, 0, 0])
    np.testing.assert_allclose(np.delete(found.weights, 4, axis=0), np.eye(9))
    assert found.notes == (
        "1 of the model's 10 bands were resampled from those of s.tif by Gaussian response (FWHM 11 nm).",
    )


def test_a_bad_band_without_wavelengths_has_no_neighbours() -> None:
    scene = Bands(good=(True, False, False))
    with pytest.raises(
        SceneError, match=r"s\.tif marks bands as bad that the model uses \(2-3\), and the wave.* s"
    ):
        align(scene, bands(1.0, 2.0, 3.0), "s.tif")
    with pytest.raises(SceneError, match=r"that the model uses \(8-9\)"):
        align(scene, bands(1.0, 2.0, 3.0), "s.tif", np.array([5, 8, 9]))
    with pytest.raises(SceneError, match=r"marks every band as bad"):
        align(bands(1.0, 2.0, good=(False, False)), bands(1.0, 2.0), "s.tif")


@pytest.mark.parametrize(
    ("scene", "model", "who"),
    [
        (unknown(2), MODEL, "of s.tif are unknown"),
        (bands(460.0, 600.0), unknown(3), "of the model are unknown"),
        (unknown(2), unknown(3), "of s.tif and of the model are unknown"),
    ],
)
def test_other_counts_without_wavelengths_are_refused(scene: Bands, model: Bands, who: str) -> None:
    with pytest.raises(SceneError, match=rf"s\.tif has 2 bands but .* on 3, and the wavelengths {who}.*--bands"):
        align(scene, model, "s.tif")


def test_bands_that_are_not_covered_are_listed_as_ranges() -> None:
    with pytest.raises(
        SceneError,
        match=r"^11 of 219 bands of the model are not covered by the good bands of s\.bsq: "
        r"420 to 446 nm \(5 bands\), 1,343 to 1,396 nm \(3 bands\), 1,805 to 1,945 nm \(3 bands\)\. "
        r"Classify a scene .* \(--bands\)$",
    ):
        align(HYMAP, ENMAP, "s.bsq")


def test_ranges_that_would_fill_the_screen_are_cut_short() -> None:
    present = np.arange(500.0, 1000.0, 20)
    model = bands(*np.concatenate([present, present + 10]).tolist(), fwhm_nm=5.0)
    with pytest.raises(
        SceneError, match=r"25 of 50 .*: 510 nm \(1 band\), .* 610 nm \(1 band\) and 19 more ranges\."
    ):
        align(bands(*present.tolist(), fwhm_nm=5.0), model, "s.tif")


def test_widths_that_are_not_known_are_the_spacing_and_said_to_be() -> None:
    fine, coarse = bands(*np.arange(500.0, 600.0, 2.0).tolist()), bands(*np.arange(510.0, 590.0, 10.0).tolist())
    found = align(bands(*np.arange(500.5, 600.0, 4.1).tolist()), coarse, "s.tif")
    assert found.notes == (
        "8 of the model's 8 bands were resampled from those of s.tif by Gaussian response (FWHM 10 nm).",
        "The widths of the bands of s.tif and of the model are unknown: taken as their spacing.",
    )
    assert (found.weights > 0).sum(axis=1).min() > 3, "not just the two nearest"
    back = align(coarse, bands(*np.arange(511.0, 580.0, 2.0).tolist(), fwhm_nm=4.0), "c.tif")
    assert back.notes[1:] == (
        "The widths of the bands of c.tif are unknown: taken as their spacing.",
        "Bands of c.tif are 10 nm wide (median), the model's 4 nm: narrow features that the model knows are lost.",
    )
    assert align(fine, coarse, "s.tif").exact, "no width says that they are not the same"


def test_bands_at_the_same_wavelengths_but_much_narrower_are_not_the_same() -> None:
    fine, coarse = np.arange(480.0, 620.0, 2.0), np.arange(510.0, 590.0, 10.0)
    found = align(bands(*fine.tolist(), fwhm_nm=2.5), bands(*coarse.tolist(), fwhm_nm=12.0), "s.tif")
    assert not found.exact
    assert found.weights.max() < 0.3


def test_hymap_is_made_of_enmap_where_that_reaches() -> None:
    reached = HYMAP.without(centres(HYMAP) > 2450)
    found = align(ENMAP, reached, "s.bsq")
    assert found.weights.shape == (123, len(found.bands))
    np.testing.assert_allclose(found.weights @ centres(ENMAP)[found.bands], centres(HYMAP)[:123])
    with pytest.raises(SceneError, match=r"2 of 125 .*: 2,462 to 2,480 nm \(2 bands\)\. Classify a scene"):
        align(ENMAP, HYMAP, "s.bsq")


@pytest.mark.shared_data
def test_every_variant_of_the_same_real_scene_has_its_bands(shared_data: Path) -> None:
    model = open_scene(shared_data / "berlin_enmap" / "EnMAP_BerlinUrbanGradient.bsq").bands
    folder = shared_data / "envi_headers" / "derived_from_berlin"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".hdr":
            continue
        scene = open_scene(path).bands
        if all(scene.good):
            assert_one_to_one(align(scene, model, path.name), list(range(177)))
        else:
            with pytest.raises(SceneError, match=r"11 of 177 .* 460 to 470 nm \(3 bands\), 1,251 to 1,522 nm \(8"):
                align(scene, model, path.name)


@pytest.mark.shared_data
def test_a_real_airborne_sensor_covers_a_real_satellites_bands(shared_data: Path) -> None:
    model = open_scene(shared_data / "berlin_enmap" / "EnMAP_BerlinUrbanGradient.bsq").bands
    scene = open_scene(shared_data / "aviris_ng" / "ang20160910t185702_2rdn_img").bands
    found = align(scene, model, "ang")
    np.testing.assert_allclose(found.weights @ centres(scene)[found.bands], centres(model), atol=1e-9)
    with pytest.raises(SceneError, match="128 of 425 bands of the model are not covered"):
        align(model, scene, "berlin")
