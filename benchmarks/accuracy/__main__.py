"""Accuracy of CSSD and of what is usual, on several scenes, splits and seeds: mean and standard deviation.

python benchmarks/accuracy --data FOLDER [--scenes demo pines_like] [--shots 10] [--seeds 1330 1220] [--table]

Each result is a line of the results file as soon as it is there; what is there already is not run again, so that
a run can be stopped and gone on with. `--table` only prints what is there. Splits:

random  k training pixels of each class (half of a class with fewer than 2 k), all other labelled pixels test.
        Their neighbours train, so this says how well a scene is memorised.
apart   whole polygons are held out, half of each class at best; k training pixels a class from the others, so far
        away (--distance) that no window of a training pixel shares a pixel with one of a test pixel.

Instead of a number of shots: `all` labelled pixels of the training side, or those on a grid, `grid5` (windows
overlap by half) and `grid10` (they do not).
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cubes
import methods
import numpy as np
from numpy.typing import NDArray
from public import PublicSceneError

from cssd_geo.accuracy.splits import few_shot, separation, split_polygons
from cssd_geo.errors import CssdGeoError, LabelError
from cssd_geo.labels import Labels
from cssd_geo.options import RECEPTIVE_FIELD
from cssd_geo.training import LEAST_PIXELS

SEEDS = (1330, 1220, 1336, 1337, 1224, 1236, 1226, 1235, 1233, 1229)
SPLITS = ("random", "apart")
_USUAL = ("support vectors", "random forest")
_DISTANCE = separation(RECEPTIVE_FIELD)
_APART = 0.5
"""Share of the pixels of a class that the split by polygons aims to test."""

Row = dict[str, Any]


def main() -> None:
    """Run what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the scenes, but for the demo")
    parser.add_argument("--results", type=Path, default=Path("accuracy.jsonl"))
    parser.add_argument("--scenes", nargs="+", choices=cubes.NAMES, default=["demo"])
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=SPLITS)
    parser.add_argument("--shots", nargs="+", default=["10"], help="numbers, all, grid5, grid10")
    parser.add_argument(
        "--distance", type=int, default=_DISTANCE, help="pixels from what trains to what tests apart, at least"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--methods", nargs="+", choices=methods.METHODS, default=methods.METHODS)
    parser.add_argument("--fetch", action="store_true", help="download public scenes that are missing, once")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    options = parser.parse_args()
    done = _read_results(options.results, options.distance)
    if not options.table:
        try:
            with options.results.open("a") as file:
                for row in missing(options, done):
                    file.write(json.dumps(row) + "\n")
                    file.flush()
                    done.append(row)
                    print(" ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        except (FileNotFoundError, ValueError, CssdGeoError, PublicSceneError) as error:
            sys.exit(f"Error: {error}")
    print(f"{leads(done)}\n\n{table(done)}")


def _read_results(path: Path, distance: int) -> list[Row]:
    """Rows that are there already, but for those of another distance, which are not comparable."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [row for row in rows if row["distance"] in (None, distance)]


def missing(options: argparse.Namespace, done: list[Row]) -> Iterator[Row]:
    """Run what is asked for and not done, seed by seed, so that a run that is stopped compares methods fairly."""
    there = {_key(row) for row in done}
    for name in options.scenes:
        data = None
        for seed in options.seeds:
            for split in options.splits:
                for shots in options.shots:
                    for method in options.methods:
                        case = {"scene": name, "split": split, "shots": shots, "seed": seed, "method": method}
                        if _key(case) in there:
                            continue
                        data = data or cubes.labelled(name, options.data, fetch=options.fetch)
                        yield from _run(data, case, options.distance)


def _key(row: Row) -> tuple[Any, ...]:
    return row["scene"], row["split"], row["shots"], row["seed"], row["method"].split(":")[0]


def _run(data: cubes.Labelled, case: Row, distance: int) -> Iterator[Row]:
    try:
        train, test = _samples(data.labels, case, distance)
    except LabelError as none:
        print(f"skipped, {none}: {case}", flush=True)
        return
    few = data.labels.select(train).counts().min() < LEAST_PIXELS
    if few or not len(test):
        why = f"a class has fewer than {LEAST_PIXELS} training pixels" if few else "no pixel is left to test"
        print(f"skipped, {why}: {case}", flush=True)
        return
    for found in methods.run(case["method"], data, train, test, case["seed"]):
        accuracy, error = found.accuracy, found.calibration_error
        yield case | {
            "method": found.method,
            "oa": round(100 * accuracy.overall_accuracy, 3),
            "aa": round(100 * accuracy.average_accuracy, 3),
            "kappa": round(accuracy.kappa, 5),
            "calibration_error": None if error is None else round(error, 5),
            "seconds": round(found.seconds, 1),
            "distance": distance if case["split"] == "apart" else None,
            "train": len(train),
            "test": len(test),
            "tested_classes": int((accuracy.n > 0).sum()),
        }


def _samples(labels: Labels, case: Row, distance: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indexes of the labelled pixels that train and that test."""
    split, shots, seed = case["split"], case["shots"], case["seed"]
    if split == "random":
        allowed, test = np.ones(len(labels), np.bool_), None
    else:
        parts = split_polygons(
            rows=labels.rows,
            cols=labels.cols,
            classes=labels.classes,
            polygons=labels.polygons,
            buffer=distance,
            fraction=_APART,
            seed=seed,
        )
        allowed, test = parts.train, parts.test
    train = np.flatnonzero(allowed)
    if shots.startswith("grid"):
        step = int(shots.removeprefix("grid"))
        train = train[(labels.rows[train] % step == 0) & (labels.cols[train] % step == 0)]
    elif shots != "all":
        train = train[few_shot(classes=labels.classes[train], shots=int(shots), seed=seed, most=0.5)]
    if test is None:
        test = np.ones(len(labels), np.bool_)
        test[train] = False
    return train, np.flatnonzero(test)


def leads(rows: list[Row]) -> str:
    """Return Markdown: how far the map is above the better usual method of each seed, mean and range."""
    cases: dict[tuple[str, ...], dict[int, dict[str, Row]]] = {}
    for row in rows:
        seeds = cases.setdefault((row["scene"], row["split"], row["shots"]), {})
        seeds.setdefault(row["seed"], {})[row["method"]] = row
    head = "| scene | split | shots | seeds | OA % | SVM | forest | lead, OA | lead, AA | calibration error |"
    lines = [head, "|---" * 10 + "|"]
    for case, seeds in sorted(cases.items(), key=lambda item: item[0][::-1]):
        every = [found for found in seeds.values() if {"cssd", *_USUAL} <= set(found)]
        if every:
            means = [f"{np.mean([found[name]['oa'] for found in every]):.1f}" for name in ("cssd", *_USUAL)]
            error = np.mean([found["cssd"]["calibration_error"] for found in every])
            cells = [*case, str(len(every)), *means, _lead(every, "oa"), _lead(every, "aa"), f"{error:.3f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _lead(every: list[dict[str, Row]], key: str) -> str:
    above = [found["cssd"][key] - max(found[name][key] for name in _USUAL) for found in every]
    mean = f"{np.mean(above):+.1f}"
    return mean if len(above) == 1 else f"{mean} ({min(above):+.1f} to {max(above):+.1f})"


def table(rows: list[Row]) -> str:
    """Return Markdown: mean and standard deviation over the seeds."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["scene"], row["split"], row["shots"], row["method"]), []).append(row)
    head = "| scene | split | shots | method | seeds | OA % | AA % | kappa | calibration error | seconds |"
    lines = [head, "|---" * 10 + "|"]
    for (scene, split, shots, method), found in sorted(groups.items()):
        cells = [scene, split, shots, method, str(len(found))]
        cells += [_spread(found, "oa", 1), _spread(found, "aa", 1), _spread(found, "kappa", 3)]
        cells += ["" if found[0]["calibration_error"] is None else _spread(found, "calibration_error", 3)]
        seconds = [row["seconds"] for row in found if row["seconds"] is not None]
        lines.append("| " + " | ".join([*cells, f"{np.median(seconds):.0f}" if seconds else ""]) + " |")
    return "\n".join(lines)


def _spread(rows: list[Row], key: str, digits: int) -> str:
    values = [row[key] for row in rows]
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.{digits}f}"


if __name__ == "__main__":
    main()
