"""Ridge regression from features to boxes (R-CNN paper, appendix C).

`python -m stages.fit_boxes METHOD task=PAPER.MODULE features=FOLDER model=FILE regions=FILE makes=FILE`: `task` is the
module of lib/detectors that says what is learnt from what: the features, the network `model` that makes them where they
are not stored, and the regions that they are of. Writes `data/models/METHOD/boxes.pt`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from lib.images.image_set import ImageSet, Splits
from lib.linear.task import Given
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import checkpoint
from stages.schemas import stage


def PARAMS(method: str, *, task: str, **inputs: str) -> Mapping[str, Any]:
    """The params of a row."""
    own = import_module(f"lib.detectors.{task}").reads(method)
    return {"seed": Seed, "splits": Splits, f"{method}.difficult": bool, **own}


def main(life: Life) -> None:
    """See the module's docstring."""
    method, seed = life.item, life.params["seed"]
    images = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"]
    )
    memory = int(life.compute.memory_gib * 2**30)
    given = Given(life.name, method, life.params, seed, images, life.input, memory)
    task = import_module(f"lib.detectors.{life.role('task')}").task(given)
    life.announce(task.work, memory=task.memory)
    regression = task.begin()
    for step in life.progress(range(task.steps), task.steps, "image"):
        regression.add(step)
    checkpoint.save(life.out(life.role("makes")), regression.sections())


if __name__ == "__main__":
    stage(main, PARAMS)
