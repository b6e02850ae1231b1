"""GeoTIFF: wavelengths by every convention in use, scales, masks, transparency, side files, addresses."""

import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from scenes import ROTATED, coordinate_cube, random_model, write_raster, write_two_fields

from cssd_geo.cli import main
from cssd_geo.errors import SceneError
from cssd_geo.files import rasters
from cssd_geo.files.locations import file_name, is_address, local_path
from cssd_geo.messages import without_secrets
from cssd_geo.options import TrainingOptions
from cssd_geo.products import open_scene
from cssd_geo.scene_info import describe_scene
from cssd_geo.scenes.array_scenes import scene_of_array
from cssd_geo.scenes.scene import Scene
from cssd_geo.scenes.sources import RasterSource
from cssd_geo.tiles import Window
from cssd_geo.training import train

NM = (460.5, 551.25, 2400.75)
WIDTHS = (5.5, 6.25, 9.0)
CUBE = np.random.default_rng(0).integers(1, 9000, (3, 17, 23)).astype(np.int16)


def _all_of(scene: Scene) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    window = Window(row=0, col=0, height=scene.grid.height, width=scene.grid.width)
    return scene.read(window, scene.bands.good_indexes)


def _listed(values: tuple[float, ...], form: str = "{}") -> str:
    return form.format(", ".join(map(str, values)))


def _braced(values: tuple[float, ...]) -> str:
    return _listed(values, "{{{}}}")


def _um(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(round(v / 1000, 6) for v in values)


def _per_band(**lists: tuple[Any, ...]) -> list[dict[str, str]]:
    return [{key.replace("__", " "): str(values[i]) for key, values in lists.items()} for i in range(3)]


Tagging = dict[str, Any]
"""domain (of the dataset: text, of the bands: text with a *), or names."""
CONVENTIONS: dict[str, tuple[Tagging, bool]] = {
    "imagery": ({"IMAGERY*": _per_band(CENTRAL_WAVELENGTH_UM=_um(NM), FWHM_UM=_um(WIDTHS))}, True),
    "gdal's envi driver": ({"*": _per_band(wavelength=NM, wavelength_units=("Nanometers",) * 3)}, False),
    "capitals and blanks": ({"*": _per_band(WAVELENGTH=NM, WAVELENGTH__UNIT=("nm",) * 3)}, False),
    "sentinel-2 driver": (
        {"*": _per_band(WAVELENGTH=NM, WAVELENGTH_UNIT=("nm",) * 3, BANDWIDTH=WIDTHS, BANDWIDTH_UNIT=("nm",) * 3)},
        True,
    ),
    "unit in the value": ({"*": _per_band(wavelength=tuple(f"{v} nm" for v in NM))}, False),
    "unit in the key": ({"*": _per_band(center_wavelength_nm=NM, fwhm_nm=WIDTHS)}, True),
    "envi-box, bands": (
        {"ENVI*": _per_band(wavelength=NM, wavelength_units=("nm",) * 3, fwhm=WIDTHS)},
        True,
    ),
    "force": ({"FORCE*": _per_band(Wavelength=_um(NM), Wavelength_unit=("micrometers",) * 3)}, False),
    "envi domain": (
        {"ENVI": {"wavelength": _braced(NM), "fwhm": _braced(WIDTHS), "wavelength units": "nm"}},
        True,
    ),
    "envi domain, plural": ({"ENVI": {"wavelengths": _braced(NM), "wavelength_units": "nm"}}, False),
    "list of a script": ({"": {"wavelengths": _listed(NM, "[{}]"), "fwhm": _listed(WIDTHS, "[{}]"),
                               "wavelength_units": "nm"}}, True),
    "commas": ({"": {"wavelengths_nm": _listed(NM)}}, False),
    "tuple": ({"": {"wavelength": _listed(NM, "({})"), "wavelength_unit": "nm"}}, False),
    "numpy's print": ({"": {"wavelengths_nm": str(np.array(NM))}}, False),
    "numpy's scalars": ({"": {"wavelengths_nm": f"[{', '.join(f'np.float64({v})' for v in NM)}]"}}, False),
    "names": ({"names": [f"band {i} ({v} nm)" for i, v in enumerate(NM, 1)]}, False),
    "names with widths": ({"names": [f"{v} nm (FWHM {w} nm)" for v, w in zip(NM, WIDTHS, strict=True)]}, True),
    "plain names": ({"names": [str(v) for v in NM]}, False),
}  # fmt: skip


def _tagged(path: Path, tags: Tagging, cube: NDArray[Any] = CUBE) -> Path:
    write_raster(path, cube)
    with rasterio.open(path, "r+") as dataset:
        for domain, values in tags.items():
            if domain == "names":
                dataset.descriptions = values
            elif domain.endswith("*"):
                for index, each in enumerate(values, 1):
                    dataset.update_tags(index, ns=domain.rstrip("*") or None, **each)
            else:
                dataset.update_tags(ns=domain or None, **values)
    return path


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_wavelengths_and_widths_are_read_by_every_convention(tmp_path: Path, convention: str) -> None:
    tags, widths = CONVENTIONS[convention]
    scene = open_scene(_tagged(tmp_path / "s.tif", tags))
    assert scene.bands.wavelength_nm == pytest.approx(NM, abs=1e-6)
    assert scene.bands.fwhm_nm == (pytest.approx(WIDTHS, abs=1e-6) if widths else None)
    assert not scene.notes
    assert scene_of_array(scene.cube).bands == scene.bands


@pytest.mark.parametrize(
    "tags",
    [
        {"names": ["Band 400", "Band 401", "Band 402"]},
        {"names": ["2019", "2020", "2021"]},
        {"": {"wavelengths": "[460, 551]"}},
        {"*": _per_band(wavelength=("460", "", "2400"))},
        {"": {"WAVELENGTH_METERS": "0.05"}},
        {"*": _per_band(bandwidth=WIDTHS)},
    ],
)
def test_tags_that_do_not_speak_for_every_band_say_nothing(tmp_path: Path, tags: Tagging) -> None:
    assert open_scene(_tagged(tmp_path / "s.tif", tags)).bands.wavelength_nm is None


def test_years_are_no_wavelengths(tmp_path: Path) -> None:
    tags = {"ENVI": {"wavelength": "{2009.1, 2009.5, 2010.2}", "wavelength_units": "decimal years"}}
    scene = open_scene(_tagged(tmp_path / "s.tif", tags))
    assert scene.bands.wavelength_nm is None
    assert "are no lengths" in scene.notes[0]


def test_bad_bands_are_read_of_the_list_and_of_each_band(tmp_path: Path) -> None:
    assert open_scene(_tagged(tmp_path / "a.tif", {"ENVI": {"bbl": "{1, 0, 1}"}})).bands.good == (
        True,
        False,
        True,
    )
    assert open_scene(_tagged(tmp_path / "b.tif", {"ENVI*": _per_band(bbl=(0, 1, 1))})).bands.good == (
        False,
        True,
        True,
    )


def test_what_rioxarray_keeps_of_an_envi_header_is_read_of_its_copy(tmp_path: Path) -> None:
    tags = {"bbl": "1,0,1", "reflectance_scale_factor": "10000", "wavelength": "460"}
    scene = open_scene(_tagged(tmp_path / "s.tif", {"": tags, "*": _per_band(wavelength=NM)}))
    assert scene.bands.good == (True, False, True)
    assert scene.scale.tolist() == [1e-4] * 3
    assert scene.bands.wavelength_nm == pytest.approx(NM)


def test_scales_offsets_and_nodata_are_those_of_each_band(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", CUBE, nodata=-7)
    with rasterio.open(path, "r+") as dataset:
        dataset.scales, dataset.offsets = (0.1, 0.2, 0.3), (1, 2, 3)
    scene = open_scene(path)
    assert (scene.scale.tolist(), scene.offset.tolist()) == ([0.1, 0.2, 0.3], [1, 2, 3])
    np.testing.assert_array_equal(scene.nodata, -7)


def test_a_side_file_says_what_the_file_does_not(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", CUBE)
    bands = "".join(
        f'<PAMRasterBand band="{i}"><NoDataValue>{i}</NoDataValue><Scale>0.5</Scale><Metadata>'
        f'<MDI key="wavelength">{nm}</MDI><MDI key="wavelength_units">nm</MDI></Metadata></PAMRasterBand>'
        for i, nm in enumerate(NM, 1)
    )
    Path(f"{path}.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    scene = open_scene(path)
    assert scene.bands.wavelength_nm == NM
    assert scene.nodata.tolist() == [1, 2, 3]
    assert scene.scale.tolist() == [0.5] * 3


# Layouts


@given(
    profile=st.fixed_dictionaries(
        {
            "interleave": st.sampled_from(["pixel", "band"]),
            "compress": st.sampled_from([None, "deflate", "lzw", "zstd"]),
            "dtype": st.sampled_from(["uint8", "int16", "float32"]),
            "nodata": st.sampled_from([None, 7]),
            "sparse_ok": st.booleans(),
            "BIGTIFF": st.sampled_from(["NO", "YES"]),
        }
    ),
    tiled=st.booleans(),
    threads=st.booleans(),
    holes=st.sets(st.integers(0, 5)),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_any_window_of_any_layout_is_what_gdal_reads_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    profile: dict[str, Any],
    *,
    tiled: bool,
    threads: bool,
    holes: set[int],
    data: st.DataObject,
) -> None:
    """Whole blocks, parts of them, some bands in any order; where a block was never written there is nodata."""
    path, (height, width) = tmp_path_factory.mktemp("layouts") / "s.tif", (43, 70)
    profile = profile | {
        "photometric": "minisblack",
        "crs": "EPSG:32632",
        "transform": Affine(4, 0, 600_000, 0, -4, 5_300_000),
    }
    layout = {"tiled": True, "blockxsize": 32, "blockysize": 16} if tiled else {"blockysize": 9}
    with rasterio.open(
        path, "w", driver="GTiff", count=5, height=height, width=width, **profile, **layout
    ) as made:
        for index, (_, block) in enumerate(made.block_windows(1)):
            if index % 6 not in holes:
                values = np.random.default_rng(index).integers(1, 250, (5, int(block.height), int(block.width)))
                made.write(values.astype(profile["dtype"]), window=block)
    with rasterio.open(path) as theirs:
        whole = theirs.read()
    source = RasterSource(str(path))
    with pytest.MonkeyPatch.context() as patch:
        if threads:
            patch.setattr("cssd_geo.scenes.sources.WORTH_A_THREAD", 1)
        steps = source.blocks
    for _ in range(3):
        row = data.draw(st.one_of(st.integers(0, height - 1), st.sampled_from(range(0, height, steps.height))))
        col = data.draw(
            st.one_of(st.integers(0, width - 1), st.sampled_from(range(0, width, min(steps.width, width))))
        )
        rows = data.draw(st.one_of(st.integers(1, height - row), st.just(min(2 * steps.height, height - row))))
        cols = data.draw(st.one_of(st.integers(1, width - col), st.just(min(steps.width, width - col))))
        bands = np.array(
            data.draw(st.one_of(st.just([0, 1, 2, 3, 4]), st.permutations(range(5)).map(lambda p: p[:3])))
        )
        window = Window(row=row, col=col, height=rows, width=cols)
        shape = (rows, cols, len(bands)) if source.bands_last else (len(bands), rows, cols)
        out = np.zeros(shape, profile["dtype"])
        out = out.transpose(2, 0, 1) if source.bands_last else out
        source.read(window, bands, out)
        np.testing.assert_array_equal(out, whole[bands, row : row + rows, col : col + cols])


@pytest.mark.parametrize("compress", [None, "deflate", "zstd"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiled", [True, False], ids=["tiles", "strips"])
@pytest.mark.parametrize("kept", [0.5, 0.97])
@pytest.mark.parametrize("worth", [1, 64_000], ids=["threads", "one thread"])
def test_a_file_that_ends_too_soon_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    compress: str | None,
    interleave: str,
    kept: float,
    worth: int,
    tiled: bool,
) -> None:
    """Reading strips without compression past its cache, GDAL took zeros for what was not there."""
    monkeypatch.setattr("cssd_geo.scenes.sources.WORTH_A_THREAD", worth)
    layout = {"tiled": True, "blockxsize": 16, "blockysize": 16} if tiled else {"blockysize": 8}
    profile = {"count": 5, "height": 64, "width": 48, "dtype": "int16", "interleave": interleave, **layout}
    place = {"crs": "EPSG:32632", "transform": Affine(4, 0, 600_000, 0, -4, 5_300_000)}
    cube = np.random.default_rng(0).integers(1, 9000, (5, 64, 48)).astype(np.int16)
    path = tmp_path / "s.tif"
    with rasterio.open(path, "w", driver="GTiff", compress=compress, **profile, **place) as made:
        made.write(cube)
    window, every = Window(row=0, col=0, height=64, width=48), np.arange(5)
    assert (open_scene(path).read(window, every)[0] == cube).all()
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(SceneError, match="cannot be read at"):
        open_scene(path).read(window, every)


# Transparency


@pytest.mark.parametrize("position", [1, 2, 4])
@pytest.mark.parametrize("nodata", [None, 77])
def test_transparency_is_the_mask_and_no_band(tmp_path: Path, position: int, nodata: int | None) -> None:
    alpha = np.where(np.random.default_rng(1).random(CUBE.shape[1:]) < 0.3, 0, 255).astype(np.int16)
    cube = CUBE.copy()
    cube[1, 2, 3], alpha[2, 3] = 77, 255
    path = write_raster(tmp_path / "s.tif", np.insert(cube, position - 1, alpha, axis=0), nodata=nodata)
    with rasterio.open(path, "r+") as dataset:
        kinds = [ColorInterp.undefined] * 4
        kinds[position - 1] = ColorInterp.alpha
        dataset.colorinterp = kinds
        for index, nm in zip([i for i in range(1, 5) if i != position], NM, strict=True):
            dataset.update_tags(index, wavelength=nm, wavelength_units="nm")
    scene = open_scene(path)
    assert scene.bands.wavelength_nm == NM
    assert f"Band {position} is transparency (alpha)" in scene.notes[0]
    values, valid = _all_of(scene)
    np.testing.assert_array_equal(values, cube)
    expected = alpha > 0
    expected[2, 3] = nodata is None
    expected &= (cube != 77).all(axis=0) | (nodata is None)
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(scene.cube.coords["valid"], alpha > 0)
    np.testing.assert_array_equal(scene_of_array(scene.cube).read(Window(row=0, col=0, height=17, width=23),
                                                                  np.arange(3))[1], expected)  # fmt: skip


def test_masks_of_single_bands_are_told(tmp_path: Path) -> None:
    write_raster(tmp_path / "s.tif", CUBE)
    write_raster(tmp_path / "s.tif.msk", np.zeros_like(CUBE, np.uint8))
    with rasterio.open(tmp_path / "s.tif.msk", "r+") as masks:
        masks.update_tags(**{f"INTERNAL_MASK_FLAGS_{band}": "0" for band in (1, 2, 3)})
    scene = open_scene(tmp_path / "s.tif")
    assert "3 bands have masks of their own, which are not used" in scene.notes[0]


def test_transparency_alone_is_no_scene(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", CUBE[:1])
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [ColorInterp.alpha]
    with pytest.raises(SceneError, match="holds transparency only"):
        open_scene(path)


# Addresses


@dataclass(frozen=True, kw_only=True)
class Served:
    """A folder that a server on this machine gives out."""

    address: str
    folder: Path
    log: Path

    def sent(self) -> int:
        """Bytes so far."""
        return sum(map(int, self.log.read_text().split()))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, log = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("log") / "sent"
    log.touch()
    command = [sys.executable, str(Path(__file__).with_name("range_server.py")), str(folder), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield Served(address=f"http://127.0.0.1:{server.stdout.readline().strip()}", folder=folder, log=log)
        server.kill()


@pytest.mark.parametrize("form", ["{}/cog.tif", "/vsicurl/{}/cog.tif", "{}/cog.tif?signature=secret"])
def test_a_cog_at_an_address_is_read_in_parts(served: Served, form: str) -> None:
    base, folder = served.address, served.folder
    cube = np.random.default_rng(0).integers(1, 9999, (3, 1000, 1100)).astype(np.int16)
    path = write_raster(folder / "cog.tif", cube, driver="COG", blocksize=128, compress="deflate", nodata=5)
    before = served.sent()
    scene = open_scene(form.format(base))
    assert (scene.path, scene.name, scene.cube.name) == (None, "cog.tif", "cog")
    window = Window(row=300, col=400, height=50, width=60)
    values, valid = scene.read(window, np.arange(3))
    np.testing.assert_array_equal(values, cube[:, 300:350, 400:460])
    np.testing.assert_array_equal(valid, (values != 5).all(axis=0))
    assert served.sent() - before < path.stat().st_size / 2, "only what is needed"


def test_what_is_not_at_an_address_is_said(served: Served) -> None:
    with pytest.raises(SceneError, match=r"missing\.tif is not a raster that can be read: .*404"):
        open_scene(f"{served.address}/missing.tif")


def test_a_server_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "GDAL_HTTP_LOW_SPEED_TIME" not in os.environ
    patience = rasters._PATIENCE | {"GDAL_HTTP_LOW_SPEED_TIME": "1"}
    monkeypatch.setattr(rasters, "_PATIENCE", patience)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the connection, and is silent
        place = f"http://127.0.0.1:{server.getsockname()[1]}/silent.tif"
        with pytest.raises(SceneError, match=r"silent\.tif is not a raster that can be read"):
            open_scene(place)


def test_the_user_s_patience_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GDAL_HTTP_LOW_SPEED_TIME", "600")
    ours = {name for name in rasters.settings("https://example.org/s.tif") if "HTTP" in name}
    assert ours == {"GDAL_HTTP_CONNECTTIMEOUT", "GDAL_HTTP_LOW_SPEED_LIMIT"}


def test_the_command_line_takes_addresses_as_they_are(served: Served, tmp_path: Path) -> None:
    base, folder = served.address, served.folder
    scene = write_raster(folder / "s.tif", np.random.default_rng(0).integers(1, 9, (12, 20, 30)).astype(np.int16))
    random_model(bands=12).save(tmp_path / "m.safetensors")
    run = partial(CliRunner().invoke, main)
    facts = run(["info", f"{base}/s.tif", "--json"])
    assert facts.exit_code == 0, facts.output
    assert json.loads(facts.output)["size"] == {"height": 20, "width": 30, "bands": 12}
    for place in (f"{base}/s.tif", str(scene)):
        done = run(
            [
                "classify",
                place,
                "-m",
                str(tmp_path / "m.safetensors"),
                "-o",
                str(tmp_path / "c.tif"),
                "--overwrite",
            ]
        )
        assert done.exit_code == 0, done.output
        with rasterio.open(tmp_path / "c.tif") as dataset:
            assert dataset.tags()["CSSD_GEO_SCENE"] == "s.tif"


def test_training_on_an_address_has_a_name_and_no_fingerprint(served: Served, tmp_path: Path) -> None:
    base, folder = served.address, served.folder
    made = write_two_fields(tmp_path)
    (folder / "two.tif").write_bytes(made.scene.read_bytes())
    quick = TrainingOptions(epochs=1, split="none", pixels_per_class=20)
    model = train(f"{base}/two.tif?key=secret", made.labels, options=quick, device="cpu").model
    assert model.provenance["scene"] == {"name": "two.tif", "fingerprint": None}


def test_signatures_and_passwords_are_kept_nowhere_and_may_be_renewed(served: Served, tmp_path: Path) -> None:
    base, folder, maps = served.address, served.folder, tmp_path / "maps"
    cube = np.random.default_rng(0).integers(1, 9, (4, 20, 30)).astype(np.int16)
    (folder / "torn.tif").write_bytes(write_raster(folder / "signed.tif", cube).read_bytes()[:3000])
    write_raster(folder / "mask.tif", np.ones((1, 20, 30), np.uint8))
    random_model(bands=4).save(tmp_path / "m.safetensors")
    host = base.removeprefix("http://")
    chosen = ["-m", tmp_path / "m.safetensors", "-o", maps, "--on-error", "continue"]
    chosen += ["--valid-mask", f"{base}/mask.tif?sig=SECRET/4"]
    for word, status in (("SECRET1", "done"), ("SECRET2", "skipped")):
        scenes = [f"http://me:{word}@{host}/signed.tif?v=1&sig={word}", f"{base}/torn.tif?sig={word}"]
        scenes.append(f"/vsicurl/{base}/gone.tif?sig={word}")
        said = CliRunner().invoke(main, ["batch", *map(str, [*scenes, *chosen])])
        assert said.exit_code == 7
        written = (maps / "manifest.jsonl").read_text()
        assert "SECRET" not in said.output + written
        lines = {line["scene"]: line for line in map(json.loads, written.splitlines()[-3:])}
        assert lines[f"http://...@{host}/signed.tif?..."]["status"] == status
        assert "torn.tif?..., band 1: " in lines[f"{base}/torn.tif?..."]["error"]
        assert "404" in lines[f"/vsicurl/{base}/gone.tif?..."]["error"]
    assert not [path for path in maps.iterdir() if b"SECRET" in path.read_bytes()]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://h/a.tif?sig=b/c=: gone", "https://h/a.tif?...: gone"),
        ("'https://h/a?b' and a.tif?sig=b, band 1", "'https://h/a?...' and a.tif?..., band 1"),
        ("/vsicurl?url=https%3A%2F%2Fh%2Fa%3Fsig%3Db is", "/vsicurl?... is"),
        ("s3://b/a.tif: which layer? Give --layer=x", "s3://b/a.tif: which layer? Give --layer=x"),
        ("https://me:word@h/a@b.tif", "https://...@h/a@b.tif"),
    ],
)
def test_what_may_be_secret_in_an_address_is_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == str(SceneError(text)) == shown


def test_raw_files_in_an_archive_say_that_their_length_is_not_known(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "raw.dat", CUBE, driver="ENVI", transform=ROTATED)
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for each in (path, path.with_suffix(".hdr")):
            archive.write(each, each.name)
    scene = open_scene(f"/vsizip/{tmp_path}/raw.zip/raw.dat")
    assert scene.path is None
    np.testing.assert_array_equal(_all_of(scene)[0], CUBE)
    assert "could not be checked" in scene.notes[0]


def test_s3_without_credentials_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_NO_SIGN_REQUEST"):
        monkeypatch.delenv(name, raising=False)
    with (
        rasterio.Env(CPL_AWS_AUTODETECT_EC2="NO", CPL_AWS_CREDENTIALS_FILE="/none", AWS_CONFIG_FILE="/none"),
        pytest.raises(
            SceneError, match=r"s3://bucket/scene\.tif is not a raster that can be read: .*AWS_SECRET_ACCESS_KEY"
        ),
    ):
        open_scene("s3://bucket/scene.tif")


def test_places_are_paths_or_addresses() -> None:
    for address in ("https://h/a.tif", "s3://b/a.tif", "/vsicurl/https://h/a.tif", "zip://a.zip!b.tif"):
        assert is_address(address)
        assert local_path(address) is None
    for path in ("a.tif", "/data/a.tif", Path("/data/a.tif"), "netcdf:a.nc:b"):
        assert not is_address(path)
        assert local_path(path) == Path(path)
    assert file_name("https://h/a.tif?k=v/w") == file_name("/vsis3/b/a.tif") == file_name("x/a.tif") == "a.tif"


def test_pages_are_not_taken_for_a_scene_of_one_band(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    for number, band in enumerate(coordinate_cube(3, 8, 9)):
        more = {"APPEND_SUBDATASET": "YES"} if number else {}
        write_raster(tmp_path / "page.tif", band[None])
        rasterio.shutil.copy(tmp_path / "page.tif", path, driver="GTiff", **more)
    with pytest.raises(SceneError, match="holds 3 images one behind the other"):
        open_scene(path)


def test_a_transform_that_gives_pixels_no_size_is_refused(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "s.tif", coordinate_cube(2, 8, 9), transform=Affine(30, 0, 5, 0, 0, 9))
    with pytest.raises(SceneError, match="gives pixels no size"):
        open_scene(path)


def test_bands_chosen_of_chosen_bands_are_those_of_one_file(tmp_path: Path) -> None:
    cube = coordinate_cube(6, 8, 9)
    scene = open_scene(write_raster(tmp_path / "s.tif", cube), bands=[2, 4, 5, 6])
    again = scene.take_bands(np.array([3, 1]), "again")
    np.testing.assert_array_equal(
        again.read(Window(row=0, col=0, height=8, width=9), np.arange(2))[0], cube[[5, 3]]
    )
    assert describe_scene(again)["file"] == describe_scene(scene)["file"]


def test_a_relative_path_stays_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = coordinate_cube(3, 20, 30)
    write_raster(tmp_path / "scene.tif", values)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    source = open_scene("scene.tif").source
    monkeypatch.chdir(tmp_path / "elsewhere")
    out = np.zeros_like(values)
    with ThreadPoolExecutor(1) as thread:  # opens a handle of its own
        thread.submit(source.read, Window(row=0, col=0, height=20, width=30), np.arange(3), out).result()
    np.testing.assert_array_equal(out, values)
