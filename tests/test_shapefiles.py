"""A shapefile whose index is missing or wrong is read right or refused, never wrong, and never written to."""

import os
import struct
from pathlib import Path

import pyogrio
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import pixel_box, write_polygons

from cssd_geo.errors import LabelError
from cssd_geo.vectors.shapefiles import has_fitting_index
from cssd_geo.vectors.vector_files import VectorLayer, is_vector, read_layer

BOXES = [(pixel_box(3 * i, 2 * i, 1 + i, 2), f"crop {i}") for i in range(6)]
NOTE = "has no index (.shx) that fits it"


def _shapefile(folder: Path, name: str = "l.shp") -> Path:
    folder.mkdir(exist_ok=True)
    return write_polygons(folder / name, BOXES)


def _is_right(layer: VectorLayer) -> bool:
    same = all(shapely.equals(g, box) for g, (box, _) in zip(layer.geometries, BOXES, strict=True))
    return same and layer.fields["class_name"].tolist() == [name for _, name in BOXES]


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_good_index_is_left_alone(tmp_path: Path) -> None:
    path = _shapefile(tmp_path)
    assert has_fitting_index(path)
    layer = read_layer(path, None)
    assert _is_right(layer)
    assert layer.notes == ()


@pytest.mark.parametrize("name", ["l.shp", "two words.shp", "dotted.name.shp", "schön.shp"])
def test_without_an_index_it_is_read_all_the_same(tmp_path: Path, name: str) -> None:
    path = _shapefile(tmp_path / "f", name)
    path.with_suffix(".shx").unlink()
    before = _snapshot(tmp_path / "f")
    assert is_vector(path)
    layer = read_layer(path, None)
    assert _is_right(layer)
    assert layer.crs == "EPSG:32633"
    assert len(layer.notes) == 1
    assert NOTE in layer.notes[0]
    assert _snapshot(tmp_path / "f") == before


def test_suffixes_in_upper_case_are_found(tmp_path: Path) -> None:
    path = _shapefile(tmp_path)
    for part in list(tmp_path.iterdir()):
        os.rename(part, part.with_suffix(part.suffix.upper()))  # noqa: PTH104 - as another program did
    path.with_suffix(".SHX").unlink()
    assert _is_right(read_layer(path.with_suffix(".SHP"), None))


@settings(max_examples=80, deadline=None)
@given(
    cut=st.integers(0, 148), word=st.integers(0, 11), value=st.integers(-(2**31), 2**31 - 1), swap=st.booleans()
)
@example(cut=0, word=0, value=186, swap=False)  # the place of the third shape, which is then there twice
def test_no_damage_to_the_index_can_swap_shapes(
    tmp_path_factory: pytest.TempPathFactory, cut: int, word: int, value: int, *, swap: bool
) -> None:
    path = _shapefile(tmp_path_factory.mktemp("s"))
    index = bytearray(path.with_suffix(".shx").read_bytes())
    if swap:
        index[100:108], index[116:124] = index[116:124], index[100:108]
    else:
        struct.pack_into(">i", index, 100 + 4 * word, value)
    path.with_suffix(".shx").write_bytes(index[: cut if cut > 100 else len(index)])
    assert _is_right(read_layer(path, None))


@settings(max_examples=40, deadline=None)
@given(left=st.integers(0, 900))
def test_shapes_that_are_cut_off_are_an_error(tmp_path_factory: pytest.TempPathFactory, left: int) -> None:
    path = _shapefile(tmp_path_factory.mktemp("s"))
    whole = path.read_bytes()
    path.write_bytes(whole[: min(left, len(whole) - 1)])
    with pytest.raises(LabelError, match=r"cut off or damaged|cannot be matched|neither|cannot be read"):
        read_layer(path, None)


def test_shapes_that_are_not_as_many_as_rows_are_an_error(tmp_path: Path) -> None:
    path, other = _shapefile(tmp_path), write_polygons(tmp_path / "other.shp", BOXES[:4])
    other.with_suffix(".dbf").rename(path.with_suffix(".dbf"))
    with pytest.raises(LabelError, match="6 shapes for 4 rows of attributes"):
        read_layer(path, None)


def test_records_that_were_moved_by_editing_are_no_damage(tmp_path: Path) -> None:
    """GDAL writes a record that has grown at the end of the file; the index then leads to it."""
    path = _shapefile(tmp_path)
    content, index = bytearray(path.read_bytes()), bytearray(path.with_suffix(".shx").read_bytes())
    at, words = struct.unpack_from(">ii", index, 100)
    record = content[2 * at : 2 * at + 8 + 2 * words]
    struct.pack_into(">i", index, 100, len(content) // 2)
    content += record
    struct.pack_into(">i", content, 24, len(content) // 2)
    path.write_bytes(content)
    path.with_suffix(".shx").write_bytes(index)
    assert has_fitting_index(path)
    layer = read_layer(path, None)
    assert _is_right(layer)
    assert layer.notes == ()
    path.with_suffix(".shx").unlink()
    with pytest.raises(LabelError, match="7 shapes for 6 rows"):
        read_layer(path, None)


def test_gdal_agrees_with_an_index_that_was_made(tmp_path: Path) -> None:
    path = _shapefile(tmp_path)
    theirs = pyogrio.raw.read(path)[2].tolist()
    path.with_suffix(".shx").unlink()
    assert shapely.to_wkb(read_layer(path, None).geometries).tolist() == theirs
