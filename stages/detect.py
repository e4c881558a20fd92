"""A method's detections on the test split, with the milliseconds of each part.

Reads the method's models, the proposals, the tables and the images; writes `data/detections/METHOD.parquet` and
`results/speed/METHOD.json`.
"""

from importlib import import_module

import numpy as np
from pydantic import Field

from lib.core import run, tables
from lib.core.ahead import ahead
from lib.core.by_image import ByImage
from lib.core.clock import Clock
from lib.core.pool import workers
from lib.data.photographs import Photographs, Splits
from lib.detectors.candidates import Candidates, Selection
from lib.detectors.linear import Refine
from lib.nets import device


class Detect(Selection):
    """Block `METHOD.detect`: which regions become detections, and

    scores    : svm, or the network's softmax;  regress : move the boxes by the regressors
    batch     : regions in one forward pass;  precision : of the forward passes
    """

    scores: str = Field(pattern="^(svm|softmax)$")
    regress: bool
    batch: int = Field(ge=1)
    precision: device.Precision


PARAMS = {"splits": Splits, "{item}.detect": Detect, "proposals.table": str}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    method, settings = import_module(f"lib.detectors.{life.item}"), life.params[f"{life.item}.detect"]
    photographs = Photographs(life.data_root, life.dep("data/tables"), life.params["splits"].test)
    proposals = ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    place, clock = device.pick(life.compute.device, settings.precision), Clock()
    models = life.dep(f"data/models/{life.item}")
    detector = method.Detector(models, settings.scores, settings.regress, place, settings.batch, clock)
    candidates = Candidates(life.scratch, photographs.classes, len(photographs), settings)
    life.announce(f"{len(photographs)} images")

    def scored(image_id: str) -> tuple[str, np.ndarray, np.ndarray, Refine]:
        with clock("decode"):
            image = photographs.image(image_id)
        boxes = tables.boxes(proposals[image_id])
        return image_id, boxes, *detector(detector.prepare(image, boxes))

    todo = photographs.ids[candidates.done :]
    results = ahead(scored, todo, *place.side_by_side(workers(life.compute)))
    for image_id, boxes, scores, refine in life.progress(results, len(photographs), "image", candidates.done):
        with clock("select"):
            candidates.add(image_id, photographs.size(image_id), boxes, scores, refine)
    with clock("nms"):
        candidates.write(life.out(f"data/detections/{life.item}.parquet"))
    tables.write_json(life.out(f"results/speed/{life.item}.json"), clock.milliseconds(len(todo)))


if __name__ == "__main__":
    run.stage(main, PARAMS)
