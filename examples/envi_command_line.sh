#!/usr/bin/env bash
# The command line on an ENVI scene: train, info, classify, evaluate.
#
#   examples/envi_command_line.sh [FOLDER]
#
# Without a folder, a temporary one is used. EPOCHS (default 15) and SIZE (default "160 200", height and width in pixels)
# make it quicker or better.
set -euo pipefail

folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
cd "$folder"
cssd_geo() { "${PYTHON:-python}" -m cssd_geo.cli "$@"; } # or simply cssd-geo, where it is installed

# A made-up scene stands in for yours, converted to ENVI: scene.img (BIL) and its header scene.hdr.
# shellcheck disable=SC2086 # two words
"${PYTHON:-python}" - ${SIZE:-160 200} <<'PYTHON'
import sys
from pathlib import Path

import rasterio

from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape

height, width = map(int, sys.argv[1:])
landscape = make_landscape(height=height, width=width, bands=48)
files = write_scene(landscape, Path())
with rasterio.open(files.scene) as source:
    profile = source.profile
    kept = {key: profile[key] for key in ("count", "height", "width", "dtype", "crs", "transform", "nodata")}
    with rasterio.open("scene.img", "w", driver="ENVI", interleave="bil", **kept) as target:
        target.write(source.read())
# What sensors' own ENVI headers hold and GDAL's does not: wavelengths, widths and the bands that are no good.
fields = {
    "wavelength units": "Nanometers",
    "wavelength": landscape.wavelength_nm.round(2),
    "fwhm": landscape.fwhm_nm.round(2),
    "bbl": landscape.good_bands.astype(int),
    "reflectance scale factor": 10000,
}
with Path("scene.hdr").open("a", encoding="utf-8") as header:
    for name, value in fields.items():
        text = str(value) if isinstance(value, str | int) else "{" + ", ".join(map(str, value)) + "}"
        header.write(f"{name} = {text}\n")
files.scene.unlink()
PYTHON

echo "== what is known of the scene"
cssd_geo info scene.img

echo "== train on the labelled polygons; whole polygons are held out, and the accuracy on them is reported"
cssd_geo train scene.img labels.shp -o model.safetensors --epochs "${EPOCHS:-15}" --report report.json --overwrite

echo "== what is known of the model, as JSON for programs"
cssd_geo info model.safetensors --json >model.json

echo "== the plan, then the map"
cssd_geo classify scene.img -m model.safetensors -o map.tif --dry-run
cssd_geo classify scene.img -m model.safetensors -o map.tif --confidence confidence.tif --overwrite

echo "== compare with the full truth, away from the polygons that were trained on"
cssd_geo evaluate map.tif truth.tif --exclude labels.shp --csv confusion.csv --png confusion.png --overwrite

echo "All files are in $folder: open map.tif in QGIS."
