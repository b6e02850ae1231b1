"""Make models/demo.safetensors: the model that `make demo` trains, on the scene that it makes.

python models/make_demo_model.py
"""

import tempfile
from pathlib import Path

from cssd_geo.demo.run import run_demo
from cssd_geo.options import DEMO_EPOCHS, TrainingOptions


def main() -> None:
    """Run the demo in a temporary folder, keep the model, and print the figures of its card."""
    target = Path(__file__).with_name("demo.safetensors")
    with tempfile.TemporaryDirectory() as folder:
        demo = run_demo(folder, options=TrainingOptions(epochs=DEMO_EPOCHS), say=print)
        demo.training.model.save(target)
    hold_out = demo.training.hold_out
    print(demo.evaluation.accuracy.to_text())
    if hold_out is not None:
        print(f"held-out polygons: OA {100 * hold_out.map.overall_accuracy:.1f} %")
    print(f"{target} written, {target.stat().st_size / 1e6:.1f} MB, digest {demo.training.model.digest()[:12]}")


if __name__ == "__main__":
    main()
