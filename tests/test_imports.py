"""The architecture, as a table: imports go downward only, and library code keeps out of some things altogether."""

import ast
import subprocess
import sys
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import rasterio
import torch
from scenes import coordinate_cube, random_model, write_raster

import cssd_geo

# Lowest first, a layer a line, after the package that it is of (`.`: none). A module imports from lines above its
# own, never from its own or below; the lines of a package stand together, so that packages obey the same order.
LAYERS = """
.         messages
.         errors
.         bands classes options tiles
.         labels
.         budget machine recycled threads
files     beginnings fingerprints hints json_values locations outputs xml_files
files     hdf5_links side_files
files     links
files     rasters
.         grid
headers   axis_names band_names envi_header wavelengths
headers   band_tags
headers   raw_files
headers   raster_facts
spectra   band_choice resampling
spectra   alignment
vectors   choices legend longitudes shapefiles
vectors   burning placement
vectors   class_fields remapping vector_files
vectors   shapes
vectors   placed_shapes
maps      layer pam patches
maps      class_tables raster_writer reach training_labels
maps      class_rasters
accuracy  matching metrics reliability split_search
accuracy  areas splits
accuracy  strata
scenes    array_bands sources stac validity
scenes    lookup
scenes    array_source cube lazy_rasters masks scene_lists
scenes    scene
scenes    array_scenes previews raster_scenes scene_files unreadable
scenes    fill_checks
scenes    scene_checks
formats   hdf5_chunks hdf5_files xml_products
formats   hdf5_cubes stores
formats   cf_axes desis enmap hdf5
formats   cf_grids cf_values neon prisma saved_cubes
formats   cf
formats   emit
.         label_files products
compute   folded kernels recorded rows transfer workers
compute   convolution dilation panels projection
compute   flow pooling
compute   strips
.         calibration network
.         dense model
.         value_scale
learning  discriminant reflectances sampling validation windows
learning  baselines
learning  fitting labelled_scenes whitening
learning  labelled_pixels trainer
engine    busy devices
engine    inference
engine    cluster_worker lazy streaming
engine    cluster
runs      identity journal locks raw_layers
runs      records
runs      unfinished
runs      layers
runs      job
runs      run
.         exclusion map_info reference
.         stratified
.         evaluation model_info pictures reference_sample scene_info
.         classification forecast training
.         batch
bench     made patches
bench     rates
demo      layout spectra
demo      landscape
demo      files
demo      run
cli       terminal
cli       clients forecast interrupts model_facts options progress
cli       train
cli       batch bench classify demo evaluate info sample
.         cli
cli       __main__
bench     peak
"""
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy"}
UNSAFE_CALLS = {"print", "eval", "exec", "compile", "__import__"}

ROOT = Path(cssd_geo.__file__).parent
LINES = [line.split() for line in LAYERS.strip().splitlines()]
LEVEL = {
    name if package == "." else f"{package}.{name}": level
    for level, (package, *names) in enumerate(LINES)
    for name in names
}
WITHOUT_TORCH = [
    *(name for name, level in LEVEL.items() if level < LEVEL["compute.kernels"]),
    *("calibration", "learning.sampling", "learning.validation", "learning.baselines"),
    *("pictures", "evaluation", "reference", "reference_sample"),
    *("cli", "cli.options", "cli.progress", "cli.interrupts", "cli.terminal"),
]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PACKAGES = {"", *(package for package, *_ in LINES)} - {".", "cli"}
SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if name_of(path) not in PACKAGES}


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text())


@cache
def imported(tree: ast.AST) -> frozenset[str]:
    """Full names of what is imported anywhere, inside functions and for types as well."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names}
    return frozenset(found)


def own_modules(tree: ast.AST) -> set[str]:
    """Modules of this package that are imported: the longest part of each name that is one."""
    found = set()
    for name in imported(tree):
        parts = name.split(".")
        if parts[0] == "cssd_geo":
            tails = (".".join(parts[1:end]) for end in range(len(parts), 1, -1))
            found |= {next((tail for tail in tails if tail in SOURCES), "")}
    return found - {""}


def test_the_table_names_every_module_once() -> None:
    assert sorted(LEVEL) == sorted(SOURCES)
    assert sum(len(names) for _, *names in LINES) == len(LEVEL)


def test_packages_stand_together() -> None:
    packages = [package for package, _ in groupby(package for package, *_ in LINES[: LEVEL["cli"]])]
    named = [package for package in packages if package != "."]
    assert len(named) == len(set(named))


def test_packages_hold_nothing_but_a_description() -> None:
    bodies = [ast.parse((ROOT / package / "__init__.py").read_text()).body for package in PACKAGES - {""}]
    assert all(len(body) == 1 and isinstance(body[0], ast.Expr) for body in bodies)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_downward_only(module: str) -> None:
    tree = tree_of(module)
    assert not any(name.startswith(".") for name in imported(tree)), "relative imports hide where they lead"
    upward = {other for other in own_modules(tree) if LEVEL[other] >= LEVEL[module]}
    assert not upward, f"{module} must not import {upward}"


def test_the_package_itself_imports_its_modules_for_types_only() -> None:
    body = ast.parse((ROOT / "__init__.py").read_text()).body
    outside = [node for node in body if not isinstance(node, ast.If)]
    assert not any(own_modules(node) for node in outside)


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_nothing_below_the_network_reaches_torch(module: str) -> None:
    reached, todo = set(), [module]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += own_modules(tree_of(name)) - reached if not name.startswith("cli") else []
    using = {name for name in reached if any(i.split(".")[0] == "torch" for i in imported(tree_of(name)))}
    assert not using


def test_scenes_maps_and_accuracy_work_without_torch() -> None:
    modules = [f"cssd_geo.{name}" for name in (*WITHOUT_TORCH, "scene_info")]
    code = f"import sys, {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_windows_is_told_where_it_runs() -> None:
    code = "import importlib, typing, os; os.name = 'nt'; import cssd_geo"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "on Windows use it in WSL 2" in done.stderr.splitlines()[-1]


def test_classifying_on_this_machine_does_without_what_it_does_not_need(tmp_path: Path) -> None:
    """Torch's compiler alone takes a second to import, and nothing here is compiled."""
    scene = write_raster(tmp_path / "s.tif", coordinate_cube(4, 9, 8))
    model = random_model(bands=4, dtype=torch.float32)
    model.save(tmp_path / "m.safetensors")
    code = (
        "import sys, cssd_geo.batch; from cssd_geo.classification import classify; classify(*sys.argv[1:]); "
        "unneeded = {'dask', 'rioxarray', 'zarr', 'distributed', 'scipy', 'sklearn', 'matplotlib'}; "
        "unneeded.add('torch._dynamo'); "
        "sys.exit(' '.join(unneeded & set(sys.modules)) or 0)"
    )
    files = [str(file) for file in (scene, tmp_path / "m.safetensors", tmp_path / "map.tif")]
    done = subprocess.run([sys.executable, "-c", code, *files], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.tags()["CSSD_GEO_MODEL"] == model.digest(), "of a model that another process has saved"


@pytest.mark.parametrize("module", SOURCES)
def test_library_code_keeps_out_of(module: str) -> None:
    tree = tree_of(module)
    assert not {name.split(".")[0] for name in imported(tree)} & UNSAFE_MODULES
    for node in ast.walk(tree):
        where = f"{module}, line {getattr(node, 'lineno', '?')}"
        assert not isinstance(node, ast.Assert), f"{where}: input is checked with errors, not with assert"
        if isinstance(node, ast.ExceptHandler):
            caught = node.type.id if isinstance(node.type, ast.Name) else node.type
            assert caught not in (None, "Exception"), f"{where}: catches everything"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in UNSAFE_CALLS | {"torch.load", "np.load"}, f"{where}: {called}"


def test_public_names_are_there_and_no_others() -> None:
    assert all(hasattr(cssd_geo, name) for name in cssd_geo.__all__)
    assert set(cssd_geo.__all__) <= set(dir(cssd_geo))
    with pytest.raises(AttributeError, match="no attribute 'utils'"):
        _ = cssd_geo.utils  # type: ignore[attr-defined]
