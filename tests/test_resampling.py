"""Resampling spectra: exact for straight lines, close to the truth for real ones, never over a gap."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sensors import ENMAP, FINE_NM, HYMAP, ground, seen_by

from cssd_geo.bands import Bands
from cssd_geo.spectra.resampling import MATCH_TOLERANCE_NM, SpectralAxis, centres, widths

Floats = NDArray[np.float64]


def bands_of(wavelength_nm: Floats, fwhm_nm: Floats | None = None) -> Bands:
    known = None if fwhm_nm is None else tuple(fwhm_nm.tolist())
    return Bands(good=(True,) * len(wavelength_nm), wavelength_nm=tuple(wavelength_nm.tolist()), fwhm_nm=known)


@st.composite
def sensors(draw: st.DrawFn) -> Bands:
    """Any bands, in any order, with gaps, close pairs and now and then the same wavelength twice."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    step, count = draw(st.sampled_from([1.0, 6.5, 10.0, 30.0])), draw(st.integers(1, 60))
    steps = step * random.choice([0.0, 0.1, 1.0, 1.1, 15.0], count, p=[0.02, 0.08, 0.5, 0.35, 0.05])
    nm = 450 + np.cumsum(steps)
    fwhm = step * random.uniform(0.8, 1.5, count)
    order = random.permutation(count) if draw(st.booleans()) else np.arange(count)
    return bands_of(nm[order], fwhm[order] if draw(st.booleans()) else None)


wanted = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).uniform(440, 900, 30),
        np.random.default_rng(seed + 1).uniform(1, 60, 30),
    )
)
"""Centres and widths of bands."""


@given(scene=sensors(), band=wanted)
def test_weights_are_shares_and_straight_lines_come_back(scene: Bands, band: tuple[Floats, Floats]) -> None:
    weights, covered = SpectralAxis.of(scene).resample(*band)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), covered)
    nm = np.where(weights > 0, centres(scene), np.nan)[covered]
    off = np.abs(weights @ centres(scene) - band[0])[covered]
    alone = np.nanmin(nm, axis=1) == np.nanmax(nm, axis=1)
    np.testing.assert_allclose(off[~alone], 0, atol=1e-9)
    assert (off[alone] <= MATCH_TOLERANCE_NM).all(), "one band stands for one beside it"


@given(scene=sensors(), band=wanted, seed=st.integers(0, 99))
def test_the_order_of_bands_in_the_file_does_not_matter(
    scene: Bands, band: tuple[Floats, Floats], seed: int
) -> None:
    weights, covered = SpectralAxis.of(scene).resample(*band)
    order = np.random.default_rng(seed).permutation(len(scene))
    shuffled = bands_of(centres(scene)[order], None if scene.fwhm_nm is None else widths(scene)[order])
    again, still = SpectralAxis.of(shuffled).resample(*band)
    np.testing.assert_array_equal(still, covered)
    np.testing.assert_allclose(again, weights[:, order], atol=1e-12)


@given(scene=sensors(), band=wanted)
def test_bad_bands_might_as_well_not_be_there(scene: Bands, band: tuple[Floats, Floats]) -> None:
    bad = np.arange(len(scene)) % 4 == 1
    nm, fwhm = centres(scene), np.maximum(widths(scene), 1)
    weights, covered = SpectralAxis.of(bands_of(nm, fwhm).without(bad)).resample(*band)
    rest, still = SpectralAxis.of(bands_of(nm[~bad], fwhm[~bad])).resample(*band)
    np.testing.assert_array_equal(still, covered)
    np.testing.assert_array_equal(rest, weights)


@given(scene=sensors())
def test_a_band_of_the_scene_is_itself(scene: Bands) -> None:
    nm = centres(scene)
    weights, covered = SpectralAxis.of(scene).resample(nm, widths(scene))
    assert covered.all()
    for i, row in enumerate(weights):
        same = nm == nm[i]
        if widths(scene)[same].max() == widths(scene)[same].min():
            np.testing.assert_allclose(row[same].sum(), 1)


def test_as_wide_bands_are_interpolated_between_the_nearest_two() -> None:
    nm, fwhm = np.arange(500.0, 700.0, 10.0), np.full(20, 12.0)
    between = np.random.default_rng(0).uniform(500, 690, 50)
    weights, _ = SpectralAxis.of(bands_of(nm, fwhm)).resample(between, np.full(50, 11.0))
    spectra = np.random.default_rng(1).uniform(size=20)
    np.testing.assert_allclose(weights @ spectra, np.interp(between, nm, spectra))


def test_fine_bands_are_seen_through_the_wide_gaussian() -> None:
    """The variance of the weights is what is missing to the wanted response."""
    nm = np.arange(400.0, 900.0, 2.0)
    weights, _ = SpectralAxis.of(bands_of(nm, np.full(len(nm), 3.0))).resample(np.array([601.0]), np.array([20.0]))
    mean = weights @ nm
    fwhm = np.sqrt(weights @ (nm - mean) ** 2 * 8 * np.log(2) + 3.0**2)
    np.testing.assert_allclose(mean, 601)
    np.testing.assert_allclose(fwhm, 20, rtol=0.02)  # the bell ends at three deviations


def test_nothing_is_taken_from_beyond_a_gap() -> None:
    nm = np.concatenate([np.arange(1700, 1801, 6.0), np.arange(1950, 2050, 6.0)])
    axis = SpectralAxis.of(bands_of(nm, np.full(len(nm), 6.0)))
    centre = np.arange(1710.0, 2046.0, 1.0)
    weights, covered = axis.resample(centre, np.full(len(centre), 40.0))
    np.testing.assert_array_equal(covered, (centre <= 1798) | (centre >= 1948))
    assert not weights[centre < 1850][:, nm > 1850].any()
    assert not weights[centre > 1850][:, nm < 1850].any()


@pytest.mark.parametrize(("missing", "left"), [(1, True), (2, False), (5, False)])
def test_one_missing_band_is_bridged_and_two_are_not(missing: int, *, left: bool) -> None:
    nm = np.delete(np.arange(500.0, 700.0, 10.0), np.arange(8, 8 + missing))
    _, covered = SpectralAxis.of(bands_of(nm, np.full(len(nm), 10.0))).resample(
        np.array([583.0]), np.array([10.0])
    )
    assert covered.tolist() == [left]


def test_a_band_that_is_missing_between_two_detectors_is_bridged_by_the_coarser_one() -> None:
    nm = np.concatenate([np.arange(400.0, 501.0, 5.0), np.arange(520.0, 600.0, 10.0)])
    _, covered = SpectralAxis.of(bands_of(nm, np.full(len(nm), 10.0))).resample(
        np.array([510.0]), np.array([10.0])
    )
    assert covered.all()


def test_a_few_broad_bands_do_not_make_a_spectrum() -> None:
    nm = np.array([490.0, 560.0, 665.0, 842.0])
    for fwhm in (np.array([66.0, 36.0, 31.0, 106.0]), None):
        _, covered = SpectralAxis.of(bands_of(nm, fwhm)).resample(np.arange(500.0, 840.0, 10), np.full(34, 10.0))
        assert covered.sum() == 1, "only the one at 560 nm"


def test_two_bands_at_one_wavelength_share() -> None:
    scene = bands_of(np.array([500.0, 510.0, 510.0, 520.0]), np.full(4, 10.0))
    weights, covered = SpectralAxis.of(scene).resample(np.array([505.0, 510.0]), np.full(2, 10.0))
    np.testing.assert_allclose(weights, [[0.5, 0.25, 0.25, 0], [0, 0.5, 0.5, 0]])
    assert covered.all()


def test_one_band_alone_covers_itself_only() -> None:
    weights, covered = SpectralAxis.of(bands_of(np.array([500.0]))).resample(
        np.array([497.9, 498.0, 501.0, 510.0]), np.full(4, 30.0)
    )
    assert covered.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(weights[:, 0], covered)


@pytest.mark.parametrize(
    ("scene", "model", "rms", "most"),
    [(ENMAP, HYMAP, 5e-5, 5e-4), (HYMAP, ENMAP, 2e-3, 2e-2)],
    ids=["narrow to wide", "wide to narrow"],
)
def test_resampled_reflectance_is_close_to_what_the_other_sensor_sees(
    scene: Bands, model: Bands, rms: float, most: float
) -> None:
    """Of plants, soils and roofs. What wide bands have blurred is lost: the red edge has the largest error."""
    reflectance = ground()[1][::3, ::3].reshape(-1, len(FINE_NM))
    weights, covered = SpectralAxis.of(scene).resample(centres(model), widths(model))
    error = (seen_by(scene, reflectance) @ weights.T - seen_by(model, reflectance))[:, covered]
    assert covered.mean() > 0.9
    assert np.sqrt((error**2).mean()) < rms
    assert np.abs(error).max() < most
