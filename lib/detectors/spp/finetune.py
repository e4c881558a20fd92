"""SPPnet's fine-tuning: its fc layers for detection, on windows pooled from stored feature maps (paper §4.1).

The authors' spp_finetune_voc.m. C classes without background, D pooled features, N windows of a batch.
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
from lib.images.image_set import ImageSet, ProposalsMax
from lib.pooling.map_store import MapStore
from lib.pooling.pyramid import Window, pool_windows
from lib.storage.by_image import ByImage
from lib.training import windows as sampling
from lib.training.loop import Part, generator
from lib.training.optimisation import Optimisation
from lib.training.task import Given, Task, once


class SppFineTuning(Optimisation):
    """Block `spp.finetune`: the optimisation, and

    batch, foreground_share : windows in a batch, and the share of them that is foreground (authors: 128; paper: 25 %)
    foreground              : IoU from which a window is foreground (paper: 0.5)
    background              : IoU from which, below `foreground`, it is background (paper: 0.1)
    mirror                  : probability of taking a window from the mirrored image (authors: each image twice)
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
    return {block: SppFineTuning, f"{method}.window": Window, f"{method}.proposals_max": ProposalsMax}


def task(given: Given) -> Task:
    """SPPnet's classifier with a fresh softmax, on windows of feature maps.

    Reads the roles `model`, `maps` and `proposals`. A pass draws as many foreground windows as there are; see
    `windows.a_pass`.

    With `iterations: 0` fc6 and fc7 stay as they were, which is the paper's row without fine-tuning.
    """
    settings, images = given.settings, given.images
    maps = MapStore(given.path("maps"))
    maps.require_mirrored(settings.mirror)
    windows = labelled_windows(images, given.proposals(), settings)
    settings = settings.resolved(*sampling.a_pass(windows, settings.batch, settings.foreground_share))
    torch.manual_seed(given.seed)
    classifier = load(given.path("model"))
    network = for_detection(classifier, images.classes, maps.scales, given.params[f"{given.method}.window"])
    batches = FineTuningBatches(network, maps, images, windows, settings, given.seed, given.stage, given.device)
    return Task(
        network.head, once(settings, [network.head.classifier], batches, batches.losses), settings.steps,
        lambda: describe(network),
        f"{settings.steps} iterations of {settings.batch} windows at {maps.scales} pixels; "
        f"{len(windows[0])} foreground and {len(windows[1])} background windows",
    )


class WindowPart(NamedTuple):
    """A part of a batch.

    rows : pooled, float16 (n, D);  labels : int16 (n,), 0 for background;  names : ids of the images
    """

    rows: NDArray[np.float16]
    labels: NDArray[np.int16]
    names: list[str]


def labelled_windows(
    image_set: ImageSet, proposals: ByImage, settings: SppFineTuning
) -> tuple[sampling.Windows, sampling.Windows]:
    """All foreground and all background windows, objects among them.

    A window whose IoU is below `background` is neither. Only if that leaves no background at all, as where no image has
    an object, the limit is 0.
    """
    for lower_limit in (settings.background, 0.0):
        window_sets = sampling.WindowSets(settings.foreground, settings.foreground)
        for position, image_id in enumerate(image_set.ids):
            regions = image_set.regions(image_id, proposals)
            best = class_overlaps(regions, *image_set.objects(image_id), len(image_set.classes))
            near = best.max(axis=1, initial=0.0) >= lower_limit
            window_sets.add(position, regions[near], best[near])
        foreground, background = window_sets.join()
        if len(background):
            break
    return foreground, background


class FineTuningBatches:
    """Iteration -> the parts of its batch, a pure function of (seed, stage, iteration).

    Windows are sampled as R-CNN's, uniformly with replacement. Each has a random scale of its own, uniform too (the
    authors' code; the paper does not say), and is pooled from the stored feature map of its image.
    """

    def __init__(
        self, network: SppNetwork, maps: MapStore, image_set: ImageSet,
        windows: tuple[sampling.Windows, sampling.Windows], settings: SppFineTuning, seed: int, stage: str,
        device: Device,
    ) -> None:
        self._network, self._maps = network, maps
        self._ids, self._windows = image_set.ids, windows
        self._sides = [image_set.size(image_id) for image_id in image_set.ids]
        self._settings, self._device = settings, device
        self._seed, self._stage = seed, stage

    def __call__(self, i: int) -> list[WindowPart]:
        """The parts of batch i."""
        settings, random = self._settings, generator(self._seed, self._stage, i)
        windows, mirror = sampling.sample_windows(
            self._windows, settings.batch, settings.foreground_share, settings.mirror, random
        )
        rows = self.pool(windows, mirror, random.integers(len(self._maps.scales), size=len(windows)))
        names = [self._ids[position] for position in windows.image]
        parts = [slice(part, None, settings.parts) for part in range(min(settings.parts, len(windows)))]
        return [WindowPart(rows[part], windows.label[part], names[part]) for part in parts]

    def pool(
        self, windows: sampling.Windows, mirror: NDArray[np.bool_], levels: NDArray[np.int64]
    ) -> NDArray[np.float16]:
        """float16 (N, D): the pooled rows of windows of many images, in the order of the windows.

        mirror : bool (N,) which windows to take from the mirrored image;  levels : int64 (N,) index of their scale
        """
        network, only_scale = self._network, np.zeros(1, np.int64)
        assert network.window is not None
        rows = np.empty((len(windows), network.head.fc6.in_features), np.float16)
        for n, (image, level) in enumerate(zip(windows.image.tolist(), levels.tolist(), strict=True)):
            sides, scale = self._sides[image], self._maps.scales[level]
            mirrored, box = bool(mirror[n]), windows.boxes[n][None]
            box = flip(box, sides[0]) if mirrored else box
            feature_map = self._maps.map(self._ids[image], scale, mirrored)
            rows[n] = pool_windows(
                [feature_map], box, sides, [scale], only_scale, network.window, network.layers.levels
            )[0]
        return rows

    def losses(self, part: WindowPart) -> Part:
        """Softmax cross-entropy over C+1 classes: the part's share of the mean over the batch."""
        logits = self._network.head(self._device.put(part.rows).float())[1]
        labels = self._device.put(part.labels.astype(np.int64))
        loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / self._settings.batch
        return Part({"classification": loss}, part.names)
