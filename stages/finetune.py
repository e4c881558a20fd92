"""R-CNN's fine-tuning: M0 with an (N+1)-way softmax on warped proposals, 32 + 96 a batch (R-CNN paper §2.3).

Reads M0, the tables, the proposals and the images; writes `data/models/rcnn/cnn.pt` and the curve of the loss.
With `iterations: 0` it writes M0 with a fresh classifier, which is the paper's row "without fine-tuning".
"""

from collections.abc import Iterable, Iterator

import torch
from pydantic import Field

from lib.backbones import backbones, device
from lib.detectors.rcnn import network as rcnn
from lib.images.image_set import Photographs, Splits
from lib.images.warp import Crops
from lib.stage import params, run
from lib.storage import checkpoint, tables
from lib.storage.by_image import ByImage
from lib.training import loop as training
from lib.training import windows as sampling


class FineTune(training.Optimisation):
    """Block `rcnn.finetune`: the optimisation, and

    batch, foreground_share : crops a batch, and the share of them that is foreground (paper: 128, 1/4)
    foreground, background  : IoU from which a window is foreground, below which it is background (paper: 0.5, 0.5)
    mirror                  : probability with which a crop is flipped (Caffe's layer: 0.5)
    frozen                  : leading parts of the trunk that are not trained (paper: 0)
    precision               : of the forward passes
    """

    batch: int = Field(ge=1)
    foreground_share: float = Field(ge=0, le=1)
    foreground: float = Field(gt=0, le=1)
    background: float = Field(gt=0, le=1)
    mirror: float = Field(ge=0, le=1)
    frozen: int = Field(ge=0)
    precision: device.Precision


PARAMS = {
    "seed": params.Seed, "splits": Splits, "rcnn.crop": rcnn.Crop, "rcnn.difficult": bool, "rcnn.finetune": FineTune,
    "proposals.table": str,
}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    settings, seed = life.params["rcnn.finetune"], life.params["seed"]
    photographs = Photographs(
        life.data_root, life.dep("data/tables"), life.params["splits"].train, life.params["rcnn.difficult"],
        cache_bytes=int(life.compute.memory_gib * 2**30) // 4,
    )
    proposals = ByImage(life.dep(life.params["proposals.table"]), tables.PROPOSALS)
    proposals.require(photographs.ids, "Run: dvc repro propose")
    pools = sampling.Pools(settings.foreground, settings.background)
    for position, image_id in enumerate(photographs.ids):
        objects, labels = photographs.objects(image_id)
        pools.add_image(position, objects, labels, tables.boxes(proposals[image_id]), len(photographs.classes))
    windows = pools.join()
    life.announce(f"{settings.iterations} iterations of {settings.batch} crops; {len(windows[0])} foreground and "
                  f"{len(windows[1])} background windows")

    torch.manual_seed(seed)
    backbone = backbones.restore(checkpoint.load(life.dep("data/models/m0.pt"), "backbone", "recipe", "tensors"))
    network = rcnn.Network(backbone, photographs.classes, life.params["rcnn.crop"])
    network.backbone.freeze(settings.frozen)
    place = device.pick(life.compute.device, settings.precision, training=True)

    def batch(i: int) -> list[tuple[Crops, sampling.Windows]]:
        random = training.generator(seed, life.name, i)
        drawn, mirror = sampling.draw(windows, settings.batch, settings.foreground_share, settings.mirror, random)
        pieces = [slice(part, None, settings.parts) for part in range(min(settings.parts, len(drawn)))]
        return [(rcnn.cut_windows(network, photographs, drawn[rows], mirror[rows]), drawn[rows]) for rows in pieces]

    def losses(part: tuple[Crops, sampling.Windows]) -> training.Part:
        crops, drawn = part
        names = [photographs.ids[position] for position in drawn.image]
        return training.Part(rcnn.losses(network, crops, drawn, settings.batch, place), names)

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        return life.progress(todo, settings.iterations, "batch", done)

    last = [network.classifier]
    log = training.train(network, last, batch, losses, settings, place, seed, life.name, life.scratch, progress)
    rcnn.save(life.out("data/models/rcnn/cnn.pt"), network)
    tables.write_json(life.out("results/plots/loss/rcnn_finetune.json"), log)


if __name__ == "__main__":
    run.stage(main, PARAMS)
