"""A detector trained on proposals: Fast R-CNN, and steps 2 and 4 of Faster R-CNN (`python -m stages.train_detector BLOCK PROPOSALS`).

Reads the trunk's model file (the first one declared), the head's where the block says `head: previous` or `outputs` (the second one),
the tables, the proposals and the images; writes the model and the curve of the loss. What else the first file holds, such
as an RPN, is in the result too, unchanged.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from lib.backbones import device, model_file
from lib.detectors.fast import network as fast
from lib.detectors.fast import training as fast_training
from lib.images.image_set import Photographs, Splits
from lib.stage import run
from lib.stage.params import Seed
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk


def PARAMS(block: str, proposals: str) -> dict[str, Any]:
    """`fast.train` reads `fast.difficult` as well; `proposals` is the setting that names the table."""
    return {
        "seed": Seed, "splits": Splits, block: fast_training.Train, f"{block.split('.')[0]}.difficult": bool, proposals: str,
    }


def main(life: run.Life) -> None:
    """See the module's docstring."""
    block, table = life.args
    settings, seed, memory = life.params[block], life.params["seed"], int(life.compute.memory_gib * 2**30) // 4
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train,
        life.params[f"{block.split('.')[0]}.difficult"], cache_bytes=memory,
    )
    proposals = ByImage(life.dep(life.params[table]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro")
    batches = fast_training.Batches(photographs, proposals, settings, seed, life.name)
    phases = settings.phases()
    life.announce(f"{len(phases) * settings.iterations} iterations of {settings.images} images; {len(batches.left_out)} of "
                  f"{len(photographs)} images have no region to learn from")

    torch.manual_seed(seed)
    files = life.deps(".pt")
    model = model_file.read(files[0])
    head = fast_training.start_head(model, files[1:], photographs.classes, settings, batches)
    network = fast.Network(model.backbone, head)
    place = device.pick(life.compute.device, settings.precision, training=True)

    def train(phase: int, chosen: fast_training.Train) -> list[dict[str, float]]:
        fast_training.freeze(network, chosen, boxes_only=phase > 0)
        frozen = None if phase or settings.frozen == "all" else settings.frozen
        trunk = TrainedTrunk(network.trunk, frozen, place.place, kept_bytes=memory)

        def progress(todo: Iterable[int], done: int) -> Iterator[int]:
            done += phase * settings.iterations
            return life.progress(todo, len(phases) * settings.iterations, "batch", done)

        def losses(item: fast_training.Item) -> training.Part:
            return fast_training.item_losses(network, trunk, item, chosen, place)

        scratch = life.scratch / f"phase{phase}"
        scratch.mkdir(exist_ok=True)
        return training.train(network, [head.score, head.box], batches, losses, chosen, place, seed, life.name, scratch, progress)

    log = [entry for phase, chosen in enumerate(phases) for entry in train(phase, chosen)]
    sections = {**model.sections, "head": fast.describe_head(head, settings.fc, settings.dropout)}
    model_file.save(life.outs(".pt")[0], model.backbone, photographs.classes, settings.scale, **sections)
    tables.write_json(next(path for path in life.outs(".json") if "plots" in path.parts), log)


if __name__ == "__main__":
    run.stage(main, PARAMS)
