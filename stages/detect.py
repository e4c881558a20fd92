"""A method's detections on the test split, with the milliseconds of each part.

`python -m stages.detect METHOD MODULE BLOCK REGIONS`: MODULE of lib/detectors with the settings BLOCK and the models
among the deps; REGIONS is the setting that says where regions come from, a table or how the detector proposes them.
Writes `data/detections/METHOD.parquet` and `results/speed/METHOD.json`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lib.backbones import device
from lib.detection import many_images as running
from lib.detection.candidates import Candidates
from lib.images.image_set import Photographs, Splits
from lib.parallel.clock import Clock
from lib.parallel.pool import workers
from lib.stage import run
from lib.storage import tables
from lib.storage.by_image import ByImage


def PARAMS(method: str, module: str, block: str, regions: str) -> Mapping[str, Any]:
    """The params of a row."""
    detectors = import_module(f"lib.detectors.{module}")
    return {"splits": Splits, block: detectors.Detect, regions: detectors.REGIONS}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    method, module, block, regions = life.args
    detectors, settings, source = import_module(f"lib.detectors.{module}"), life.params[block], life.params[regions]
    photographs = Photographs(life.data_root, life.dep("data/tables"), life.params["splits"].test)
    place, clock = device.pick(life.compute.device, settings.precision), Clock()
    models = [life.dep(path) for path in life.entry.deps if path.startswith("data/models/")]
    if isinstance(source, str):
        detector, proposals = detectors.Detector(models, settings, place, clock), ByImage(life.dep(source), tables.PROPOSALS)
        proposals.require(photographs.ids, "Run: dvc repro propose")
    else:
        detector, proposals = detectors.Detector(models, settings, source, place, clock), None
    boxes = None if proposals is None else lambda image_id, _: tables.boxes(proposals[image_id])
    candidates = Candidates(life.scratch, photographs.classes, len(photographs), settings)
    life.announce(f"{len(photographs)} images")
    todo = photographs.ids[candidates.done :]
    done = running.detect(
        detector, todo, photographs.image, boxes, candidates, clock, place, workers(life.compute)
    )
    for _ in life.progress(done, len(photographs), "image", candidates.done):
        pass
    with clock("nms"):
        candidates.write(life.out(f"data/detections/{method}.parquet"))
    tables.write_json(life.out(f"results/speed/{method}.json"), clock.milliseconds(len(todo)))


if __name__ == "__main__":
    run.stage(main, PARAMS)
