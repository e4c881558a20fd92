"""Scores detections: VOC's two averages, COCO's, the table of classes and the precision-recall curves.

As a stage it reads `data/detections/METHOD.parquet` and the tables and writes `results/metrics/METHOD.json` and plots.
By hand it scores anybody's table of detections, and prints the figures and the protocol:
``python -m stages.evaluate --detections X.parquet --objects data/tables/objects.parquet [--split test]``
"""

import argparse
import json
import sys
from pathlib import Path

from pydantic import Field

from lib.core import run, tables
from lib.core.errors import InputError
from lib.core.params import Settings
from lib.evaluation import curves, report


class Evaluate(Settings):
    """Block `evaluate`.

    iou            : least IoU of a match in the VOC protocol (devkit: 0.5, reached is enough)
    max_detections : best detections per image and class in the COCO protocol (100)
    curve_points   : most points of a precision-recall curve
    """

    iou: float = Field(gt=0, le=1, default=0.5)
    max_detections: int = Field(ge=1, default=100)
    curve_points: int = Field(ge=24, default=200)


PARAMS = {"evaluate": Evaluate, "splits.test": list[str]}


def score(detections: Path, folder: Path, splits: list[str], settings: Evaluate) -> report.Scores:
    """A table of detections against the objects of some splits; `folder` holds the tables of `prepare`."""
    images = tables.read(folder / "images.parquet", tables.IMAGES)
    objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
    found = tables.read(detections, tables.DETECTIONS)
    classes = tables.read_json(folder / "classes.json")
    return report.score(images[images["split"].isin(splits)], objects, found, classes, settings.iou,
                        settings.max_detections)


def main(life: run.Life) -> None:
    """See the module's docstring."""
    settings = life.params["evaluate"]
    scores = score(life.dep(f"data/detections/{life.item}.parquet"), life.dep("data/tables"),
                   life.params["splits.test"], settings)
    tables.write_json(life.out(f"results/metrics/{life.item}.json"), report.metrics(scores))
    classes = curves.class_rows(scores.voc, scores.coco.classes)
    tables.write_json(life.out(f"results/plots/classes/{life.item}.json"), [*classes, curves.mean_row(classes)])
    rows = curves.curve_rows(scores.voc, settings.curve_points)
    tables.write_json(life.out(f"results/plots/precision_recall/{life.item}.json"), rows)
    print(f"{life.name}: {json.dumps(report.metrics(scores))}")


def by_hand() -> None:
    """The command line for detections from elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("--detections", type=Path, required=True, help=f"Parquet with {tables.DETECTIONS.names}")
    parser.add_argument("--objects", type=Path, required=True, help="objects.parquet, beside images.parquet")
    parser.add_argument("--split", action="append", help="split to score; may be repeated; default test")
    given = parser.parse_args()
    try:
        scores = score(given.detections, given.objects.parent, given.split or ["test"], Evaluate())
    except InputError as error:
        sys.exit(f"ERROR: {error}")
    print("\n".join(report.protocol(scores)))
    for row in curves.class_rows(scores.voc, scores.coco.classes):
        print(json.dumps(row))
    print(json.dumps(report.metrics(scores), indent=2))


if __name__ == "__main__":
    run.stage(main, PARAMS) if len(sys.argv) == 2 and not sys.argv[1].startswith("-") else by_hand()
