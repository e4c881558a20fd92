"""Scores detections: VOC's two averages, COCO's, the table of classes, precision-recall curves, and kinds of errors.

As a stage it reads `data/detections/METHOD.parquet` and the tables and writes `results/metrics/METHOD.json`, plots, and
`data/coco/METHOD`, the same detections and objects as COCO's files. By hand it prints the same of any detections, with
the settings of params.yaml where there is one:
``python -m stages.evaluate --detections X.parquet --objects data/tables/objects.parquet [--split test] [--coco DIR]``
"""

import argparse
import json
import sys
from pathlib import Path
from typing import get_args

from lib.evaluation import coco_results, curves, errors, inputs
from lib.evaluation import scores as report
from lib.evaluation.settings import Evaluate
from lib.stage import params
from lib.stage.errors import Failures, InputError
from lib.stage.params import Split
from lib.stage.run import Life
from lib.storage import outputs, tables
from stages.schemas import stage

PARAMS = {"evaluate": Evaluate, "splits.test": list[Split]}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params["evaluate"]
    detections = life.dep(f"data/detections/{life.item}.parquet")
    scored = inputs.read(detections, life.dep("data/tables/objects.parquet"), life.params["splits.test"])
    scores = report.score_inputs(scored, settings.iou, settings.max_detections, levels=settings.levels)
    tables.write_json(life.out(f"results/metrics/{life.item}.json"), report.metrics(scores))
    classes = curves.class_rows(scores.voc, scores.coco.classes)
    classified = errors.classify(scored, settings.similar, settings.iou, settings.background)
    plots = {
        "classes": [*classes, curves.mean_row(classes)],
        "precision_recall": curves.curve_rows(scores.voc, settings.curve_points, settings.levels),
        "errors": errors.shares(classified, settings.top),
        "error_effects": errors.effects(classified),
        "missed": errors.missed_rows(classified),
    }
    for name, rows in plots.items():
        tables.write_json(life.out(f"results/plots/{name}/{life.item}.json"), rows)
    coco_results.write(life.out(f"data/coco/{life.item}"), scored)
    print(f"{life.name}: {json.dumps(report.metrics(scores))}")


def by_hand() -> None:
    """The command line for detections from elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("--detections", type=Path, required=True, help=f"Parquet with {tables.DETECTIONS.names}")
    parser.add_argument(
        "--objects", type=Path, required=True, help="table of objects; beside it images.parquet and classes.json"
    )
    parser.add_argument(
        "--split", action="append", choices=get_args(Split), help="split to score; may be repeated; default test"
    )
    parser.add_argument("--coco", type=Path, help="folder for COCO's objects.json and detections.json")
    options, settings, failures = parser.parse_args(), Evaluate(), Failures()
    try:
        if options.coco:
            paths = [options.coco / name for name in ("objects.json", "detections.json")]
            outputs.check(paths, "--coco", [options.detections, options.objects])
        if Path(params.FILE).exists():
            settings = params.validate(params.load(), {"evaluate": Evaluate})["evaluate"]
        scored = inputs.read(options.detections, options.objects, options.split or ["test"])
    except InputError as error:
        sys.exit(f"ERROR: {error}")
    scores = report.score_inputs(scored, settings.iou, settings.max_detections, levels=settings.levels)
    classified = errors.classify(scored, settings.similar, settings.iou, settings.background)
    rows = [*curves.class_rows(scores.voc, scores.coco.classes), *errors.effects(classified)]
    print("\n".join([*report.protocol(scores), *map(json.dumps, rows), json.dumps(report.metrics(scores), indent=2)]))
    if options.coco:
        with failures(str(options.coco)):
            coco_results.write(options.coco, scored)
    if failures.faults:
        sys.exit(f"ERROR: {InputError(failures.faults)}")


if __name__ == "__main__":
    stage(main, PARAMS) if len(sys.argv) == 2 and not sys.argv[1].startswith("-") else by_hand()
