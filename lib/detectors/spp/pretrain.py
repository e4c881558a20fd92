"""SPPnet's pre-training: its classifier, at input sizes that alternate by epoch (paper §2.3, §3.1).

D pooled features, S side of the input in an epoch, N crops.
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from lib.backbones.device import Device, Precision
from lib.backbones.inference import for_inference
from lib.detectors.spp.class_crops import ClassCrops, FolderCrops, ObjectCrops, epoch_length, epoch_rows
from lib.detectors.spp.network import SppLayers, SppNetwork, describe, from_m0
from lib.images.warp import Crops
from lib.pooling.roi import pool_whole
from lib.storage import checkpoint
from lib.training.loop import Part, generator
from lib.training.optimisation import Optimisation
from lib.training.task import Given, Task, once


class SppPretraining(Optimisation):
    """Block `spp.pretrain`: the optimisation, and

    sizes       : sides of the input, pixels, one per epoch in turn (paper: 224, 180)
    batch       : crops in a batch (paper: 128)
    context     : border of context around an object, pixels of a crop of side 227
    mirror      : probability of mirroring a crop (paper §3.1: yes)
    frozen      : leading parts of the trunk that are not trained, or all: the fc layers alone (paper: 0)
    folder      : train on images FOLDER/CLASS/*.jpg instead of the objects' crops (paper: ImageNet). DVC does not track
                  it: after a change run `dvc repro --force spp_pretrain`
    crop_share  : side of the square cut out of such an image, as a share of its shorter side (paper: 224 of 256)
    precision   : of the forward passes
    """

    sizes: list[int] = Field(min_length=1)
    batch: int = Field(ge=1)
    context: float = Field(ge=0, lt=113)
    mirror: float = Field(ge=0, le=1)
    frozen: Literal["all"] | int
    folder: str | None
    crop_share: float = Field(gt=0, le=1)
    precision: Precision


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: SppPretraining, f"{method}.layers": SppLayers}


def task(given: Given) -> Task:
    """M0's trunk with pyramid pooling and fc layers. Reads the role `model` (M0). A pass is an epoch: each crop once.

    With `iterations: 0` the fc layers stay M0's where they fit, and fresh elsewhere.
    """
    settings: SppPretraining = given.settings
    crops: ClassCrops
    if settings.folder is None:
        crops = ObjectCrops(given.images, settings.context)
    else:
        crops = FolderCrops(Path(settings.folder), settings.crop_share)
    settings = settings.resolved(len(crops.labels), settings.batch)
    torch.manual_seed(given.seed)
    m0 = checkpoint.load(given.path("model"), "backbone", "recipe", "tensors")
    network = from_m0(m0, given.params[f"{given.method}.layers"], crops.classes)
    network.freeze(None if settings.frozen == "all" else settings.frozen)
    batches = PretrainingBatches(
        network, crops, settings.sizes, settings.batch, settings.mirror, settings.parts, given.seed, given.stage,
        given.device, settings.frozen == "all", given.memory,
    )
    return Task(
        network, once(settings, [network.head.classifier], batches, batches.losses), settings.steps,
        lambda: describe(network),
        f"{settings.steps} iterations of {settings.batch} of {len(crops.labels)} crops at {settings.sizes} "
        f"pixels, {len(crops.classes)} classes",
        memory=2 * given.memory,
    )


class CropPart(NamedTuple):
    """A part of a batch.

    inputs : pooled rows float32 (n, D), or the crops themselves where the trunk is fine-tuned
    labels : int64 (n,);  names : ids of the images;  batch : size of the whole batch
    """

    inputs: NDArray[np.float32] | Crops
    labels: NDArray[np.int64]
    names: list[str]
    batch: int


class PretrainingBatches:
    """Iteration -> the parts of its batch, a pure function of (seed, stage, iteration).

    Every crop is seen once an epoch, in a new order; epoch e has inputs of `sizes[e % len(sizes)]` pixels.

    sizes  : pixels;  batch : crops in a batch;  mirror : probability of mirroring;  parts : number of parts of a batch
    frozen : the trunk is not trained. Then the batch holds pooled rows, computed crop by crop so that they do not
             depend on the batch, and the rows of crops that never change are cached
    budget : bytes of rows that may be cached
    """

    def __init__(
        self, network: SppNetwork, crops: ClassCrops, sizes: Sequence[int], batch: int, mirror: float, parts: int,
        seed: int, stage: str, device: Device, frozen: bool, budget: int,
    ) -> None:
        self._network, self._crops = network, crops
        self._sizes, self._batch = list(sizes), batch
        self._mirror, self._parts = mirror, parts
        self._seed, self._stage = seed, stage
        self._device = device
        self._trunk = for_inference(network.backbone.trunk, device) if frozen else None
        self._cached_rows: dict[tuple[int, int, bool], NDArray[np.float32]] = {}
        self._capacity = budget // (4 * network.head.fc6.in_features) if crops.fixed else 0

    def __call__(self, i: int) -> list[CropPart]:
        """The parts of batch i."""
        if self._device.torch_device.type == "cpu":
            torch.set_num_threads(1)  # of this thread alone: the others are training
        count = len(self._crops.labels)
        epoch = i // epoch_length(count, self._batch)
        order = generator(self._seed, f"{self._stage} epoch", epoch).permutation(count).tolist()
        random = generator(self._seed, self._stage, i)
        rows = epoch_rows(i, count, self._batch, order)
        side = self._sizes[epoch % len(self._sizes)]
        mirrored = random.random(len(rows)) < self._mirror
        crops = list(zip(rows, mirrored.tolist(), strict=True))
        parts = [crops[part :: self._parts] for part in range(min(self._parts, len(rows)))]
        return [
            CropPart(
                inputs,
                np.array([self._crops.labels[crop] for crop, _ in part], np.int64),
                [self._crops.names[crop] for crop, _ in part],
                len(rows),
            )
            for part, inputs in zip(parts, self._inputs(parts, side, random), strict=True)
        ]

    def losses(self, part: CropPart) -> Part:
        """Softmax cross-entropy: the part's share of the mean over the batch."""
        if isinstance(part.inputs, Crops):
            rows = self._network.pooled(part.inputs.normalised(self._network.backbone.recipe, self._device.put))
        else:
            rows = self._device.put(part.inputs)
        logits = self._network.head(rows)[1]
        labels = self._device.put(part.labels)
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / part.batch
        return Part({"classification": loss}, part.names)

    def _cut(self, crop: int, side: int, flip: bool, random: np.random.Generator) -> Crops:
        return self._crops.cut(crop, side, random).mirrored(np.array([flip]))

    def _inputs(
        self, parts: Sequence[Sequence[tuple[int, bool]]], side: int, random: np.random.Generator
    ) -> Sequence[NDArray[np.float32] | Crops]:
        """The inputs of each part, which is made of crops, each with whether it is mirrored."""
        if self._trunk is None:
            return [Crops.concatenate([self._cut(crop, side, flip, random) for crop, flip in part]) for part in parts]
        rows = self._rows(self._trunk, [(crop, side, flip) for part in parts for crop, flip in part], random)
        return np.split(rows, np.cumsum([len(part) for part in parts])[:-1])

    def _rows(
        self, trunk: nn.Module, keys: Sequence[tuple[int, int, bool]], random: np.random.Generator
    ) -> NDArray[np.float32]:
        """float32 (n, D): the pooled rows of crops, each with its side and whether it is mirrored."""
        rows = {key: self._cached_rows[key] for key in keys if key in self._cached_rows}
        pooled = {}
        with torch.inference_mode(), self._device.autocast():
            for key in keys:
                if key not in rows:
                    inputs = self._cut(*key, random).normalised(self._network.backbone.recipe, self._device.put)
                    pooled[key] = pool_whole(trunk(inputs).float(), self._network.layers.levels)
        if pooled:
            fetched = self._device.fetch({"rows": torch.cat(list(pooled.values()))})["rows"]
            fresh = dict(zip(pooled, fetched, strict=True))
            self._cached_rows |= islice(fresh.items(), self._capacity - len(self._cached_rows))
            rows |= fresh
        return np.stack([rows[key] for key in keys])
