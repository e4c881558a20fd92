"""The batches and the loss with which SPPnet's fc layers are fine-tuned for detection (paper §4.1; spp_finetune_voc.m).

D pooled features, N windows of a batch.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn

from lib.backbones.device import Device, Precision
from lib.boxes.boxes import class_overlaps, flip
from lib.detectors.spp.network import SppNetwork, describe, for_detection, load
from lib.images.image_set import ImageSet
from lib.pooling.map_store import MapStore
from lib.pooling.pyramid import Window, pool_windows
from lib.storage.by_image import ByImage
from lib.training import windows as sampling
from lib.training.loop import Optimisation, Part, generator
from lib.training.task import Given, Task, once


class SppFineTuning(Optimisation):
    """Block `spp.finetune`: the optimisation, and

    batch, foreground_share : windows a batch, and the share of them that is foreground (authors: 128; paper: 25 %)
    foreground              : IoU from which a window is foreground (paper: 0.5)
    background              : IoU from which on, below `foreground`, it is background (paper: 0.1)
    mirror                  : probability with which a window is taken from the mirrored image (authors: each image twice)
    precision               : of the forward passes
    """

    batch: int = Field(ge=1)
    foreground_share: float = Field(ge=0, le=1)
    foreground: float = Field(gt=0, le=1)
    background: float = Field(ge=0, le=1)
    mirror: float = Field(ge=0, le=1)
    precision: Precision


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: SppFineTuning, f"{method}.window": Window}


def task(given: Given) -> Task:
    """SPPnet's classifier with a fresh softmax, on windows of the maps. Reads the roles `model`, `maps` and `proposals`.

    With `iterations: 0` fc6 and fc7 stay as they were, which is the paper's row without fine-tuning.
    """
    settings, images = given.settings, given.images
    maps = MapStore(given.path("maps"))
    maps.require_mirrored(settings.mirror)
    windows = labelled_windows(images, given.proposals(), settings)
    torch.manual_seed(given.seed)
    start = load(given.path("model"))
    network = for_detection(start, images.classes, maps.scales, given.params[f"{given.method}.window"])
    batches = FineTuningBatches(network, maps, images, windows, settings, given.seed, given.stage, given.device)
    return Task(
        network.head, once(settings, [network.head.classifier], batches, batches.losses), settings.iterations,
        lambda: describe(network),
        f"{settings.iterations} iterations of {settings.batch} windows at {maps.scales} pixels; "
        f"{len(windows[0])} foreground and {len(windows[1])} background windows",
    )


class WindowPart(NamedTuple):
    """A part of a batch: pooled rows float16 (n, D), labels int16 (n,) with 0 for background, the images."""

    rows: NDArray[np.float16]
    labels: NDArray[np.int16]
    names: list[str]


def labelled_windows(
    image_set: ImageSet, proposals: ByImage, settings: SppFineTuning
) -> tuple[sampling.Windows, sampling.Windows]:
    """All foreground and all background windows, objects among them; below `background` a window is neither, unless that
    leaves no background at all, as where no image has an object.
    """
    for least in (settings.background, 0.0):
        made = sampling.WindowSets(settings.foreground, settings.foreground)
        for position, image_id in enumerate(image_set.ids):
            regions = image_set.regions(image_id, proposals)
            best = class_overlaps(regions, *image_set.objects(image_id), len(image_set.classes))
            near = best.max(axis=1, initial=0.0) >= least
            made.add(position, regions[near], best[near])
        foreground, background = made.join()
        if len(background):
            break
    return foreground, background


class FineTuningBatches:
    """Iteration -> the pieces of its batch, a pure function of (seed, stage, iteration).

    Windows are drawn as R-CNN's, uniformly with replacement, each at a scale of its own, uniform too (the authors' code;
    the paper does not say), and pooled from the cached map of its image.
    """

    def __init__(
        self, network: SppNetwork, maps: MapStore, image_set: ImageSet,
        windows: tuple[sampling.Windows, sampling.Windows], settings: SppFineTuning, seed: int, stage: str, device: Device,
    ) -> None:
        self._network, self._maps, self._ids, self._windows = network, maps, image_set.ids, windows
        self._sides = [image_set.size(image_id) for image_id in image_set.ids]
        self._settings, self._seed, self._stage, self._device = settings, seed, stage, device

    def __call__(self, i: int) -> list[WindowPart]:
        """The pieces of batch i."""
        settings, random = self._settings, generator(self._seed, self._stage, i)
        drawn, mirror = sampling.sample_windows(
            self._windows, settings.batch, settings.foreground_share, settings.mirror, random
        )
        rows = self.pool(drawn, mirror, random.integers(len(self._maps.scales), size=len(drawn)))
        pieces = [slice(part, None, settings.parts) for part in range(min(settings.parts, len(drawn)))]
        return [WindowPart(rows[one], drawn.label[one], [self._ids[at] for at in drawn.image[one]]) for one in pieces]

    def pool(
        self, drawn: sampling.Windows, mirror: NDArray[np.bool_], levels: NDArray[np.int64]
    ) -> NDArray[np.float16]:
        """float16 (N, D): the rows of windows of many images, in their order.

        mirror : bool (N,) which windows to take from the mirrored image;  levels : int64 (N,) positions of their scales
        """
        network, first = self._network, np.zeros(1, np.int64)
        assert network.window is not None
        rows = np.empty((len(drawn), network.head.fc6.in_features), np.float16)
        for n, (image, level) in enumerate(zip(drawn.image.tolist(), levels.tolist(), strict=True)):
            sides, scale, flipped = self._sides[image], self._maps.scales[level], bool(mirror[n])
            box = flip(drawn.boxes[n][None], sides[0]) if flipped else drawn.boxes[n][None]
            seen = self._maps.map(self._ids[image], scale, flipped)
            rows[n] = pool_windows([seen], box, sides, [scale], first, network.window, network.layers.levels)[0]
        return rows

    def losses(self, piece: WindowPart) -> Part:
        """Softmax cross-entropy over C+1 classes, its share of the mean over the batch."""
        logits = self._network.head(torch.from_numpy(piece.rows).to(self._device.torch_device).float())[1]
        labels = torch.from_numpy(piece.labels.astype(np.int64)).to(self._device.torch_device)
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / self._settings.batch
        return Part({"classification": loss}, piece.names)
