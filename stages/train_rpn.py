"""A region proposal network on a trunk: steps 1 and 3 of Faster R-CNN's training (paper §3.2).

`python -m stages.train_rpn BLOCK`: `faster.m1` from M0, the trunk trained too; `faster.m3` on M2's trunk, which stands
still, the network's own layers fresh. Writes the model, the curve of the loss, and how well the anchors fit the objects.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from lib.backbones import device, model_file
from lib.boxes.anchors import Anchors
from lib.detectors.faster import network as faster
from lib.detectors.faster import train_rpn as faster_training
from lib.detectors.faster.rpn import RPN, Layers
from lib.images.image_set import Photographs, Splits
from lib.stage import run
from lib.stage.params import Seed
from lib.storage import tables
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk


def PARAMS(block: str) -> Mapping[str, Any]:
    """The params of a row."""
    method = block.split(".")[0]
    return {
        "seed": Seed, "splits": Splits, f"{method}.difficult": bool, f"{method}.anchors": Anchors, f"{method}.rpn": Layers,
        block: faster_training.Train,
    }


def main(life: run.Life) -> None:
    """See the module's docstring."""
    method, step = life.item.split(".")
    settings, seed = life.params[life.item], life.params["seed"]
    memory = int(life.compute.memory_gib * 2**30) // 4
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{method}.difficult"], memory
    )
    model = model_file.read(life.deps(".pt")[0])
    place = device.pick(life.compute.device, settings.precision, training=True)
    torch.manual_seed(seed)
    rpn = RPN(model.backbone.channels, life.params[f"{method}.rpn"], life.params[f"{method}.anchors"], model.backbone.stride)
    network = faster.Proposer(model.backbone, rpn)
    trunk = TrainedTrunk(network.trunk, None if settings.frozen == "all" else settings.frozen, place.place, memory)
    batches = faster_training.Batches(photographs, rpn.anchors, settings, seed, life.name)
    fit = faster_training.anchor_fit(photographs, rpn.anchors, settings)
    life.announce(f"{settings.iterations} iterations of {settings.images} images, {len(fit.unused)} of "
                  f"{len(photographs)} images without an anchor inside")
    for caution in fit.cautions:
        print(f"WARNING: {life.name}: {caution}", flush=True)

    def losses(item: faster_training.Item) -> training.Part:
        return faster_training.item_losses(network, trunk, item, settings, place)

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        return life.progress(todo, settings.iterations, "batch", done)

    log = training.train(network, [rpn], batches, losses, settings, place, seed, life.name, life.scratch, progress)
    model_file.save(life.outs(".pt")[0], model.backbone, photographs.classes, settings.scale, rpn=rpn.describe())
    tables.write_json(life.out(f"results/plots/loss/{step}.json"), log)
    tables.write_json(life.out(f"results/plots/anchors/{step}.json"), fit.classes)


if __name__ == "__main__":
    run.stage(main, PARAMS)
