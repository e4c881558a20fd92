"""Linear SVMs by hard-negative mining (R-CNN paper §2.3 and appendix B; Dalal and Triggs §4).

`python -m stages.train_svm METHOD task=PAPER.MODULE features=FOLDER regions=FILE makes=FILE`: `task` is the module of
lib/detectors that says what is learnt from what: the features, and the regions that they are of. Writes
`data/models/METHOD/svm.pt` and the counts of mined negatives.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from lib.images.image_set import ImageSet, Splits
from lib.linear.mining import Miner
from lib.linear.task import Given
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import checkpoint, tables
from stages.schemas import stage


def PARAMS(method: str, *, task: str, **inputs: str) -> Mapping[str, Any]:
    """The params of a row."""
    own = import_module(f"lib.detectors.{task}").reads(method)
    return {"seed": Seed, "splits": Splits, f"{method}.difficult": bool, **own}


def keep(scratch: Path, miners: Sequence[Miner], done: int) -> None:
    """Saves the state of each miner, one after the other: memory holds a copy of one. done : images"""
    for number, miner in enumerate(miners):
        tensors = {name: torch.from_numpy(value) for name, value in miner.state_dict().items()}
        checkpoint.save(scratch / f"miner-{number}-{done}.pt", tensors)
    checkpoint.save(scratch / "state.pt", {"done": done})
    for path in set(scratch.glob("miner-*.pt")) - set(scratch.glob(f"miner-*-{done}.pt")):
        path.unlink()


def resumed(scratch: Path, miners: Sequence[Miner]) -> int:
    """Images that an earlier run had done when it last called `keep`, whose miners these become; 0 without one."""
    if not (scratch / "state.pt").exists():
        return 0
    done = int(checkpoint.load(scratch / "state.pt", "done")["done"])
    for number, miner in enumerate(miners):
        tensors = checkpoint.load(scratch / f"miner-{number}-{done}.pt")
        miner.load_state_dict({name: value.numpy() for name, value in tensors.items()})
    return done


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
    mining = task.begin()
    done = resumed(life.scratch, mining.miners)
    for step in life.progress(range(done, task.steps), task.steps, "image", done):
        mining.add(step)
        if (step + 1) % given.settings.checkpoint_every == 0:
            keep(life.scratch, mining.miners, step + 1)
    contents = mining.sections()
    for note in contents["notes"]:
        print(f"note: {note}", flush=True)
    checkpoint.save(life.out(life.role("makes")), contents)
    tables.write_json(life.out(f"results/plots/mining/{method}.json"), mining.log_rows())


if __name__ == "__main__":
    stage(main, PARAMS)
