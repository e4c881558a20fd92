"""A method's detections on the test split, with the milliseconds of each part.

`python -m stages.detect METHOD detector=PAPER settings=BLOCK model=FILE scores=FILE boxes=FILE regions=FILE`: PAPER of
lib/detectors and its settings; the files that hold its network, what scores the classes, what moves the boxes, and its
regions: a table of proposals, or a model that makes them as the block in the role `proposing` says. One file may play
several roles. Writes `data/detections/METHOD.parquet` and `results/speed/METHOD.json`.
"""

from collections.abc import Mapping
from typing import Any

from lib.backbones.device import pick_device
from lib.detection import many_images, rows
from lib.detection.alike import alike
from lib.detection.candidates import Candidates
from lib.images.image_set import ImageSet, Splits
from lib.parallel.clock import Clock
from lib.parallel.processes import workers
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage

COMPARED = 8  # images of the test split that are not to have the same detections

def PARAMS(method: str, **roles: str) -> Mapping[str, Any]:
    """The params of a row."""
    return {"splits": Splits, **rows.Row(roles).reads()}


def main(life: Life) -> None:
    """See the module's docstring."""
    row = rows.Row(life.entry.roles)
    settings = life.params[row.settings]
    device = pick_device(life.compute.device, settings.precision)
    clock = Clock(device.synchronise)
    image_set = ImageSet(life.data_root, life.dep("data/tables"), life.params["splits"].test)
    detector = row.detector({role: life.input(role) for role in rows.FILES}, life.params, device, clock)
    boxes = None
    if detector.wants_proposals:
        proposals = image_set.proposals(life.input("regions"), row.most(life.params))
        boxes = lambda image_id, _: proposals.boxes(image_id)  # noqa: E731
    candidates = Candidates(life.scratch, image_set.classes, len(image_set), settings)
    life.announce(f"{len(image_set)} images")
    todo = image_set.ids[candidates.done :]
    done = many_images.detect(
        detector, todo, image_set.image, boxes, candidates, clock, device, workers(life.compute)
    )
    for _ in life.progress(done, len(image_set), "image", candidates.done):
        pass
    with clock.host("nms"):
        candidates.write(life.out(f"data/detections/{life.item}.parquet"))
    detections = ByImage(life.out(f"data/detections/{life.item}.parquet"), tables.DETECTIONS)
    if alike((detections[image_id], image_set.size(image_id)) for image_id in image_set.ids[:COMPARED]):
        print(f"WARNING: {life.name}: the best detections of the first {min(len(image_set), COMPARED)} images are the "
              "same: the network does not look at them. Train it longer, or with a lower learning rate.", flush=True)
    tables.write_json(life.out(f"results/speed/{life.item}.json"), clock.milliseconds(len(todo)))


if __name__ == "__main__":
    stage(main, PARAMS)
