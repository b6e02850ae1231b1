"""Pictures: right pixels in right colours, and PNG bytes whatever the names are."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scenes import write_raster

from cssd_geo.accuracy.metrics import Accuracy
from cssd_geo.accuracy.reliability import Reliability
from cssd_geo.bands import Bands
from cssd_geo.classes import ClassTable
from cssd_geo.pictures import (
    Panel,
    confusion_png,
    false_colour,
    paint_classes,
    paint_confidence,
    paint_errors,
    panels_in_a_row,
    quicklook,
    reliability_png,
    shown_bands,
)
from cssd_geo.products import open_scene

BACKGROUND = [235, 235, 235]
ODD_NAMES = [
    ("a", "b"),
    ("$x", "y$z$"),
    ("$\\frac$", "$b$"),
    ("_hidden", "b"),
    ("水田", "b"),
    ("half\u00a0space", "<&>"),
]


def decoded(png: bytes, tmp_path: Path) -> NDArray[np.float32]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "picture.png").write_bytes(png)
    return np.asarray(matplotlib.image.imread(tmp_path / "picture.png"))


def accuracy_of(names: tuple[str, ...]) -> Accuracy:
    return Accuracy(confusion=5 * np.eye(len(names), len(names) + 1, 1, dtype=np.int64), names=names)


def test_classes_get_their_colours_and_unknown_ids_none() -> None:
    table = ClassTable(ids=(2, 5), names=("a", "b"), colours=((1, 2, 3), (4, 5, 6)))
    painted = paint_classes(np.array([[0, 2, 5], [1, 9, 2]]), table)
    assert painted.tolist() == [[BACKGROUND, [1, 2, 3], [4, 5, 6]], [BACKGROUND, BACKGROUND, [1, 2, 3]]]


def test_confidence_is_brighter_where_sure_and_only_nodata_is_grey() -> None:
    painted = paint_confidence(np.array([[*range(101), 255]], np.uint8))[0].astype(int)
    assert (np.diff(painted[:-1] @ (0.2126, 0.7152, 0.0722)) >= 0).all()
    assert painted[-1].tolist() == BACKGROUND
    assert (np.ptp(painted[:-1], axis=1) > 50).all(), "no confidence looks like nodata"


def test_errors_are_red_right_is_white_and_unknown_grey() -> None:
    painted = paint_errors(np.array([[1, 2, 0, 3]]), np.array([[1, 1, 2, 0]]))
    assert painted.tolist() == [[[255] * 3, [200, 30, 30], [200, 30, 30], BACKGROUND]]


def test_false_colour_shows_near_infrared_as_red_and_leaves_nodata_out(tmp_path: Path) -> None:
    cube = np.zeros((3, 4, 6), np.int16)
    cube[2] = np.arange(24).reshape(4, 6)  # without wavelengths, the middle bands stand for the visible ones
    cube[:, 1, 2] = -9999
    image = false_colour(open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-9999)))
    assert image.shape == (4, 6, 3)
    assert image[1, 2].tolist() == BACKGROUND
    assert not image[0, 0].any()


def test_false_colour_of_a_scene_without_any_data(tmp_path: Path) -> None:
    scene = open_scene(write_raster(tmp_path / "s.tif", np.full((2, 3, 5), -1, np.int16), nodata=-1))
    assert (false_colour(scene) == BACKGROUND).all()


def test_false_colour_stretches_each_channel(tmp_path: Path) -> None:
    ramp = np.arange(200).reshape(1, 10, 20) + np.array([0, 5000, 20000])[:, None, None]
    image = false_colour(open_scene(write_raster(tmp_path / "s.tif", ramp.astype(np.int16))))
    assert image.min() == 0
    assert image.max() == 255
    assert np.all(np.diff(image[..., 0].ravel().astype(int)) >= 0)


def test_bands_are_shown_by_wavelength_else_spread() -> None:
    def shown(*centres: float, good: tuple[bool, ...] | None = None) -> list[int]:
        return list(shown_bands(Bands(good=good or (True,) * len(centres), wavelength_nm=centres)))

    assert shown(870, 540, 660, 400, 2000) == [0, 2, 1]
    assert shown(870, 540, 660, 850, good=(False, True, True, True)) == [3, 2, 1]
    assert shown(2000, 1500, 1600, 1700, 1800, 1900) == [5, 3, 2]
    assert shown(870, 540, 660, good=(False,) * 3) == [0, 2, 1]
    assert shown_bands(Bands(good=(True,))).tolist() == [0, 0, 0]
    assert shown_bands(Bands(good=(True,) * 3)).tolist() == [2, 1, 0]
    assert shown_bands(Bands(good=(True,) * 200)).tolist() == [44, 24, 14]


def test_a_quicklook_has_the_scene_s_pixels_and_no_data_is_transparent(tmp_path: Path) -> None:
    cube = np.zeros((3, 20, 30), np.int16)
    cube[2] = np.arange(600).reshape(20, 30)
    cube[:, 3:7, 2:9] = -9999
    image = decoded(quicklook(open_scene(write_raster(tmp_path / "s.tif", cube, nodata=-9999))), tmp_path)
    assert image.shape == (20, 30, 4)
    np.testing.assert_array_equal(image[..., 3] == 0, cube[0] == -9999)
    assert image[19, 29, :3].tolist() == [1, 0, 0]
    empty = open_scene(write_raster(tmp_path / "e.tif", np.full((2, 4, 5), -1, np.int16), nodata=-1))
    assert not decoded(quicklook(empty), tmp_path)[..., 3].any()


def test_a_quicklook_of_a_large_scene_is_small_and_keeps_its_shape(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", np.ones((3, 1000, 5000), np.uint8), compress="deflate")
    assert decoded(quicklook(open_scene(path)), tmp_path).shape == (200, 1000, 4)


def test_pictures_are_the_same_in_any_style(tmp_path: Path) -> None:
    cube = np.random.default_rng(0).integers(0, 9, (3, 20, 30)).astype(np.int16)
    scene, accuracy = open_scene(write_raster(tmp_path / "s.tif", cube)), accuracy_of(("a", "b"))
    usual = quicklook(scene), confusion_png(accuracy)
    with matplotlib.rc_context({"image.origin": "lower", "axes.facecolor": "black", "text.usetex": True}):
        assert (quicklook(scene), confusion_png(accuracy)) == usual
        assert matplotlib.rcParams["image.origin"] == "lower"


@pytest.mark.parametrize("names", ODD_NAMES, ids=range(len(ODD_NAMES)))
def test_any_name_can_be_drawn(names: tuple[str, ...], tmp_path: Path) -> None:
    assert decoded(confusion_png(accuracy_of(names)), tmp_path).std() > 0.01
    panel = Panel(title="map", image=np.zeros((5, 7, 3), np.uint8))
    assert decoded(panels_in_a_row([panel], ClassTable.from_names(list(names)), "title"), tmp_path).std() > 0.01


def test_panels_stand_side_by_side(tmp_path: Path) -> None:
    red, blue = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    panels = [Panel(title="left", image=red), Panel(title="right", image=blue)]
    image = decoded(panels_in_a_row(panels, ClassTable.from_names(["a"]), "both"), tmp_path)
    middle = image[image.shape[0] // 2, :, :3]
    reddest = np.flatnonzero((middle == [1, 0, 0]).all(axis=1))
    bluest = np.flatnonzero((middle == [0, 0, 1]).all(axis=1))
    assert 0 < reddest.max() < bluest.min()


def test_all_that_a_reliability_diagram_shows_is_in_its_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("cssd_geo.pictures._png", drawn.append)
    reliability_png(Reliability.of(np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])))
    axes = drawn[0].axes[0]
    told = axes.get_legend()
    assert told is not None
    assert len(told.get_texts()) == len(axes.containers) + len(axes.lines)


def test_the_confusion_matrix_of_a_sample_has_no_accuracy_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("cssd_geo.pictures._png", drawn.append)
    for title in (None, "Counts"):
        confusion_png(accuracy_of(("a", "b")), title)
    assert [figure.axes[0].get_title() for figure in drawn] == ["OA 0.0 %, kappa -0.333, n 10", "Counts, n 10"]


def test_a_confusion_matrix_of_very_many_classes_stays_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cssd_geo.pictures._MOST_NAMED", 9)
    image = decoded(confusion_png(accuracy_of(tuple(map(str, range(60))))), tmp_path)
    assert max(image.shape) < 1000


def test_some_of_very_many_classes_are_named_each_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr("cssd_geo.pictures._MOST_NAMED", 9)
    monkeypatch.setattr("cssd_geo.pictures._png", drawn.append)
    confusion_png(accuracy_of(tuple(f"class {i}" for i in range(60))))
    axes = drawn[0].axes[0]
    for places, texts in (
        (axes.get_xticks(), axes.get_xticklabels()),
        (axes.get_yticks(), axes.get_yticklabels()),
    ):
        assert 5 <= len(texts) <= 9
        assert [text.get_text() for text in texts] == [f"class {place}" for place in places.tolist()]
