"""A method's detections on the test split, with the milliseconds of each part.

Reads the method's models, the proposals, the tables and the images; writes `data/detections/METHOD.parquet` and
`results/speed/METHOD.json`.
"""

from importlib import import_module

from pydantic import Field

from lib.core import run, tables
from lib.core.ahead import ahead
from lib.core.clock import Clock
from lib.data.photographs import Photographs, Splits
from lib.detectors.candidates import Candidates, Selection
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
    proposals = tables.ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    place, clock = device.pick(life.compute.device, settings.precision), Clock()
    models = life.dep(f"data/models/{life.item}")
    detector = method.Detector(models, settings.scores, settings.regress, place, settings.batch, clock)
    candidates = Candidates(life.scratch, photographs.classes, len(photographs), settings)
    life.announce(f"{len(photographs)} images")

    def prepare(image_id: str) -> tuple[str, object]:
        with clock("decode"):
            image = photographs.image(image_id)
        return image_id, detector.prepare(image, tables.boxes(proposals[image_id]))

    todo = photographs.ids[candidates.done :]
    for image_id, prepared in life.progress(ahead(prepare, todo), len(photographs), "image", candidates.done):
        scores, refine = detector(prepared)
        boxes = tables.boxes(proposals[image_id])
        with clock("select"):
            candidates.add(image_id, photographs.size(image_id), boxes, scores, refine)
    with clock("nms"):
        candidates.write(life.out(f"data/detections/{life.item}.parquet"))
    tables.write_json(life.out(f"results/speed/{life.item}.json"), clock.milliseconds(len(todo)))


if __name__ == "__main__":
    run.stage(main, PARAMS)
