"""Approximate joint training of Faster R-CNN from M0, in place of the four steps (paper §3.2).

`python -m stages.train_joint faster_joint faster`: block `faster_joint.train`, anchors and layers of the block `faster`;
writes one model with proposer and detector, and the curve of the four losses.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from lib.backbones import device, model_file
from lib.boxes.anchors import Anchors
from lib.detectors.fast import network as fast
from lib.detectors.fast.heads import DetectionHead, region_layers
from lib.detectors.faster import train_joint as joint_training
from lib.detectors.faster.rpn import RPN, Layers
from lib.images.image_set import Photographs, Splits
from lib.stage import run
from lib.stage.params import Seed
from lib.storage import tables
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk


def PARAMS(method: str, shared: str) -> Mapping[str, Any]:
    """The params of a row."""
    return {
        "seed": Seed, "splits": Splits, f"{shared}.difficult": bool, f"{shared}.anchors": Anchors, f"{shared}.rpn": Layers,
        f"{method}.train": joint_training.Train,
    }


def main(life: run.Life) -> None:
    """See the module's docstring."""
    method, shared = life.args
    settings, seed = life.params[f"{method}.train"], life.params["seed"]
    memory = int(life.compute.memory_gib * 2**30) // 4
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params[f"{shared}.difficult"], memory
    )
    model = model_file.read(life.deps(".pt")[0])
    place = device.pick(life.compute.device, settings.precision, training=True)
    torch.manual_seed(seed)
    rpn = RPN(model.backbone.channels, life.params[f"{shared}.rpn"], life.params[f"{shared}.anchors"], model.backbone.stride)
    head = DetectionHead(*region_layers(model.backbone, settings.fc, settings.dropout), len(photographs.classes))
    network = joint_training.Joint(model.backbone, rpn, head)
    trunk = TrainedTrunk(network.detector.trunk, settings.frozen, place.place, memory)
    batches = joint_training.Batches(photographs, rpn.anchors, settings, seed, life.name)
    life.announce(f"{settings.iterations} iterations of {settings.images} images")

    def losses(item: joint_training.Item) -> training.Part:
        return joint_training.item_losses(network, trunk, item, settings, place)

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        return life.progress(todo, settings.iterations, "batch", done)

    log = training.train(
        network, [rpn, head.score, head.box], batches, losses, settings, place, seed, life.name, life.scratch, progress
    )
    sections = {"rpn": rpn.describe(), "head": fast.describe_head(head, settings.fc, settings.dropout)}
    model_file.save(life.outs(".pt")[0], model.backbone, photographs.classes, settings.scale, **sections)
    tables.write_json(life.out(f"results/plots/loss/{method}.json"), log)


if __name__ == "__main__":
    run.stage(main, PARAMS)
