"""SPPnet's classifier: M0's trunk with a pyramid and fc layers, at input sizes that alternate by epoch (SPPnet §2.3).

Reads M0, the tables and the images; writes `data/models/spp/net.pt`, which the maps are made with and the fine-tuning
starts from, and the curve of the loss. With `iterations: 0` the fc layers stay as M0 has them, or fresh.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from lib.backbones import device
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.class_crops import ClassCrops, FolderCrops, ObjectCrops
from lib.detectors.spp.pretrain import Batches
from lib.images.image_set import Photographs, Splits
from lib.stage import run
from lib.stage.params import Seed
from lib.storage import checkpoint, tables
from lib.training import loop as training


class Pretrain(training.Optimisation):
    """Block `spp.pretrain`: the optimisation, and

    sizes       : sides of the input, pixels, one per epoch in turn (paper: 224, 180)
    batch       : crops a batch (paper: 128)
    context     : border of context around an object, pixels of a crop of side 227
    mirror      : probability with which a crop is flipped (paper §3.1: yes)
    frozen      : leading parts of the trunk that are not trained, or all: the fc layers alone (paper: 0)
    folder      : train on images FOLDER/CLASS/*.jpg instead of the objects' crops (paper: ImageNet). Not tracked: to have
                  a change noticed, run `dvc repro --force spp_pretrain`
    crop_share  : side of the square cut out of such an image, share of its shorter side (paper: 224 of 256)
    precision   : of the forward passes
    """

    sizes: list[int] = Field(min_length=1)
    batch: int = Field(ge=1)
    context: float = Field(ge=0, lt=113)
    mirror: float = Field(ge=0, le=1)
    frozen: Literal["all"] | int
    folder: str | None
    crop_share: float = Field(gt=0, le=1)
    precision: device.Precision


PARAMS = {
    "seed": Seed, "splits": Splits, "spp.layers": spp_network.Layers, "spp.difficult": bool, "spp.pretrain": Pretrain,
}


def main(life: run.Life) -> None:
    """See the module's docstring."""
    settings, seed = life.params["spp.pretrain"], life.params["seed"]
    budget = int(life.compute.memory_gib * 2**30) // 4
    crops: ClassCrops
    if settings.folder is None:
        photographs = Photographs(life.data_root, life.dep("data/tables"), life.params["splits"].train,
                                  life.params["spp.difficult"], cache_bytes=budget)
        crops = ObjectCrops(photographs, settings.context)
    else:
        crops = FolderCrops(Path(settings.folder), settings.crop_share)
    torch.manual_seed(seed)
    m0 = checkpoint.load(life.dep("data/models/m0.pt"), "backbone", "recipe", "tensors")
    network = spp_network.from_m0(m0, life.params["spp.layers"], crops.classes)
    network.freeze(None if settings.frozen == "all" else settings.frozen)
    place = device.pick(life.compute.device, settings.precision, training=True)
    life.announce(f"{settings.iterations} iterations of {settings.batch} of {len(crops.labels)} crops at {settings.sizes} "
                  f"pixels, {len(crops.classes)} classes", memory=2 * budget)
    batches = Batches(network, crops, settings.sizes, settings.batch, settings.mirror, settings.parts, seed, life.name,
                      place, settings.frozen == "all", budget)

    def progress(todo: Iterable[int], done: int) -> Iterator[int]:
        return life.progress(todo, settings.iterations, "batch", done)

    log = training.train(network, [network.head.classifier], batches, batches.losses, settings, place, seed, life.name,
                         life.scratch, progress)
    spp_network.save(life.out("data/models/spp/net.pt"), network)
    tables.write_json(life.out("results/plots/loss/spp_pretrain.json"), log)


if __name__ == "__main__":
    run.stage(main, PARAMS)
