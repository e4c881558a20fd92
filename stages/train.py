"""One training stage for all methods: `python -m stages.train BLOCK task=PAPER.MODULE model=START ... makes=MODEL`.

BLOCK of params.yaml holds the settings; `task` is the module of lib/detectors that defines what is learned from what,
and the other roles are its inputs (`model`: the weights to start from; `proposals`, `maps`, `head`). `method` names the
block that a training shares with others where that is not the first part of BLOCK. Writes the model and its loss curve.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from typing import Any

from lib.backbones.device import pick_device
from lib.images.image_set import ImageSet, Splits
from lib.stage.params import Seed
from lib.stage.run import Life
from lib.storage import checkpoint, tables
from lib.training import loop
from lib.training.task import Given
from stages.schemas import stage


def PARAMS(block: str, *, task: str, method: str = "", **inputs: str) -> Mapping[str, Any]:
    """The params of a row."""
    method = method or block.split(".")[0]
    read = import_module(f"lib.detectors.{task}").reads(block, method)
    return {"seed": Seed, "splits": Splits, f"{method}.difficult": bool, **read}


def main(life: Life) -> None:
    """See the module's docstring."""
    block, seed = life.item, life.params["seed"]
    memory = int(life.compute.memory_gib * 2**30) // 4
    method = life.entry.roles.get("method", block.split(".")[0])
    images = ImageSet(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"], memory
    )
    device = pick_device(life.compute.device, life.params[block].precision, training=True)
    task = import_module(f"lib.detectors.{life.role('task')}").task(
        Given(life.name, block, method, life.params, seed, images, life.input, life.entry.roles, device, memory)
    )
    life.announce(task.work, memory=task.memory)
    for caution in task.cautions:
        print(f"WARNING: {life.name}: {caution}", flush=True)

    log: list[dict[str, float]] = []
    for number, phase in enumerate(task.phases()):
        before = len(log)

        def progress(todo: Iterable[int], done: int, before: int = before) -> Iterator[int]:
            return life.progress(todo, task.iterations, "batch", before + done)

        scratch = life.scratch / f"phase{number}"
        scratch.mkdir(exist_ok=True)
        log += loop.train(
            task.network, phase.fresh, phase.batch, phase.losses, phase.settings, device, seed, life.name, scratch,
            progress,
        )
    checkpoint.save(life.out(life.role("makes")), task.sections())
    for kind, rows in {"loss": log, **task.plots}.items():
        tables.write_json(life.out(f"results/plots/{kind}/{life.name}.json"), rows)


if __name__ == "__main__":
    stage(main, PARAMS)
