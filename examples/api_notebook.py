"""The Python API, cell by cell: run it as a script, or open it as a notebook (VS Code, Spyder, jupytext).

`python examples/api_notebook.py [FOLDER]`; without a folder, a temporary one is used. The variables EPOCHS
(default 15) and SIZE (default "160 200": height and width, pixels) make it quicker or better; in a much smaller
scene no pixel is far enough from the labels to be compared.
"""

# %% A made-up scene stands in for yours: a GeoTIFF, labelled polygons, and the full truth
import os
import sys
import tempfile
from pathlib import Path

import dask
import numpy as np

import cssd_geo
from cssd_geo.demo.files import write_scene
from cssd_geo.demo.landscape import make_landscape
from cssd_geo.pictures import Panel, false_colour, paint_classes, paint_confidence, panels_in_a_row

given = [
    argument for argument in sys.argv[1:] if not argument.startswith("-")
]  # notebooks pass options of their own
folder = Path(given[0] if given else tempfile.mkdtemp())
folder.mkdir(parents=True, exist_ok=True)
height, width = map(int, os.environ.get("SIZE", "160 200").split())
files = write_scene(make_landscape(height=height, width=width, bands=48), folder)

# %% Open the scene: nothing is read yet
scene = cssd_geo.open_scene(files.scene)
print(scene.bands.summary())
print(scene.cube)

# %% Train; some polygons are held out, and tell how good the model is
options = cssd_geo.TrainingOptions(epochs=int(os.environ.get("EPOCHS", "15")))
training = cssd_geo.train(scene, files.labels, folder / "model.safetensors", options=options)
for note in training.notes:
    print("*", note)
if training.hold_out is not None:
    print(training.hold_out.to_text())

# %% Classify into files: a class map and its confidence, on the scene's grid
done = cssd_geo.classify(
    scene, training.model, folder / "map.tif", confidence=folder / "confidence.tif", overwrite=True
)
print(done.pixels, f"{done.seconds:.1f} s")

# %% Compare the map with a reference, away from the polygons that were trained on
found = cssd_geo.evaluate(folder / "map.tif", files.truth, exclude=files.labels)
print(found.accuracy.to_text())

# %% Load the model again, as another program would
model = cssd_geo.load_model(folder / "model.safetensors")
print(model.classes.names, model.digest()[:12])

# %% Classify a DataArray lazily: dask computes the tiles when they are asked for, here or on a cluster
lazy = cssd_geo.classify(scene.cube, model, tile_size=64)
print(lazy)
class_map, confidence = dask.compute(lazy, lazy.confidence)  # both in one pass
print("pixels sure to 90 % or more:", int((confidence.where(class_map > 0) >= 90).sum()))  # noqa: PLR2004 - percent

# %% Draw
panels = [
    Panel(title="scene", image=false_colour(scene)),
    Panel(title="map", image=paint_classes(class_map.to_numpy(), model.classes)),
    Panel(
        title="confidence (yellow: sure, dark: unsure)",
        image=paint_confidence(confidence.to_numpy().astype(np.uint8)),
    ),
]
title = f"OA {100 * found.accuracy.overall_accuracy:.1f} % away from the labelled polygons"
(folder / "notebook.png").write_bytes(panels_in_a_row(panels, model.classes, title))
print(f"All files are in {folder}; look at {folder / 'notebook.png'}")
