"""Fast R-CNN's training: mini-batches of few images with many regions each, start of the head, frozen layers, losses.

Paper §2.3 and, for stage-wise training, §5.1; the authors' minibatch.py, roidb.py.
R regions of an image, C classes without background.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.backbones import model_file
from lib.backbones.device import Device
from lib.backbones.frozen import freeze_norms
from lib.backbones.region_layers import LAST_BLOCK, PRETRAINED_FC, region_layers
from lib.backbones.scaling import factor, resize, to_input
from lib.boxes.boxes import flip
from lib.detectors.fast import targets as region_sampling
from lib.detectors.fast.network import DetectionHead, FastNetwork, describe_head, restore_head
from lib.detectors.fast.targets import FastTraining, Regions, head_loss
from lib.images.image_set import ImageSet, ProposalsMax
from lib.stage.errors import Fault, InputError
from lib.storage.by_image import ByImage
from lib.training import loop as training
from lib.training.order import images_of
from lib.training.task import Given, Phase, Task
from lib.training.trunk import TrainedTrunk

PRETRAINED = (*PRETRAINED_FC, *LAST_BLOCK)


@dataclass(frozen=True)
class FastExample:
    """One image of a batch.

    image : uint8 (H, W, 3) as the network sees it;  rois : float32 (R, 5) as `roi_pool` takes them
    label : int64 (R,);  target : float32 (R, 4) normalised, 0 for background
    total : regions of the whole batch;  key : the image's id, whether it is mirrored, and the index of its scale
    """

    image: NDArray[np.uint8]
    rois: NDArray[np.float32]
    label: NDArray[np.int64]
    target: NDArray[np.float32]
    total: int
    key: tuple[str, bool, int]


class FastBatches:
    """The mini-batches of one training; batch i is a pure function of (seed, stage, i).

    mean, std : float32 (C+1, 4) statistics of the targets; `start_head` replaces them where a head brings its own
    ids       : images with regions to learn from, in the table's order;  left_out : the other images
    """

    def __init__(self, image_set: ImageSet, proposals: ByImage, settings: FastTraining, seed: int, stage: str) -> None:
        self._image_set, self._proposals = image_set, proposals
        self._settings = settings
        self._seed, self._stage = seed, stage
        classes = len(image_set.classes)
        statistics = region_sampling.Statistics(classes, settings.mirror)
        self.ids: list[str] = []
        self.left_out: list[str] = []
        for image_id in image_set.ids:
            regions = self.regions(image_id)
            statistics.add(regions)
            (self.ids if len(self._sample(regions, np.random.default_rng(0))) else self.left_out).append(image_id)
        if not self.ids:
            raise InputError([Fault("nothing to learn from", stage, f"none of {len(image_set)} images has a region", "",
                                    "Look at the proposals, and at foreground and background in params.yaml")])
        self.mean, self.std = statistics.result(settings.std_floor)
        if settings.statistics == "fixed":
            self.mean, self.std = region_sampling.fixed_statistics(classes)

    def regions(self, image_id: str) -> Regions:
        """The objects and proposals of an image, labelled."""
        boxes, labels = self._image_set.objects(image_id)
        proposals = self._proposals.boxes(image_id)
        size = self._image_set.size(image_id)
        return region_sampling.label_regions(boxes, labels, proposals, size, self._settings.foreground)

    def _sample(self, regions: Regions, random: np.random.Generator) -> NDArray[np.int64]:
        lower, upper = self._settings.background
        count = self._settings.regions // self._settings.images
        return region_sampling.sample(regions, count, self._settings.foreground_share, (lower, upper), random)

    @property
    def per_batch(self) -> int:
        """Images of a batch."""
        return min(self._settings.images, len(self.ids))

    def images(self, i: int) -> list[str]:
        """Ids of the images of batch i, see `images_of`."""
        return [self.ids[row] for row in images_of(self._seed, self._stage, i, self.per_batch, len(self.ids))]

    def __call__(self, i: int) -> list[FastExample]:
        """The images of batch i with their regions."""
        random = training.generator(self._seed, self._stage, i)
        sampled = []
        for image_id in self.images(i):
            regions = self.regions(image_id)
            regions = regions[self._sample(regions, random)]
            mirrored = bool(random.random() < self._settings.mirror)
            level = int(random.integers(len(self._settings.scale.short_side)))
            sampled.append((image_id, regions, mirrored, level))
        total = sum(len(regions) for _, regions, _, _ in sampled)
        return [self._example(*image_sample, total) for image_sample in sampled]

    def _example(self, image_id: str, regions: Regions, mirrored: bool, level: int, total: int) -> FastExample:
        scale, image = self._settings.scale, self._image_set.image(image_id)
        height, width = image.shape[:2]
        boxes, deltas = regions.boxes, regions.target
        if mirrored:
            image, boxes = image[:, ::-1], flip(boxes, width)
            deltas = deltas * np.array([-1, 1, 1, 1], np.float32)
        target = (deltas - self.mean[regions.label]) / self.std[regions.label]
        target[regions.label == 0] = 0
        scaling = factor(width, height, scale.short_side[level], scale.max_side)
        rois = np.hstack([np.zeros((len(boxes), 1), np.float32), boxes * np.float32(scaling)])
        pixels = resize(np.ascontiguousarray(image), scaling)
        return FastExample(pixels, rois, regions.label, target, total, (image_id, mirrored, level))


def start_head(
    model: model_file.Model, previous: Path | None, classes: list[str], settings: FastTraining, batches: FastBatches
) -> DetectionHead:
    """The head that training starts from.

    model    : the backbone that it is for
    previous : the file with the previous head; None for a fresh one

    A previous head keeps its weights and its statistics, which replace those of `batches`: the loss continues where it
    was (the authors' code normalises twice there). Fresh outputs get the statistics of `batches`.
    Raises InputError for a head of other classes, another backbone or another pooling, and where fresh layers need
    M0's fc6 and fc7.
    """
    if settings.head == "fresh":
        if model.backbone.name in PRETRAINED and not model.whole:
            fault = f"has a trunk alone, and {model.backbone.name} starts from pre-trained layers"
            raise InputError([Fault("no layers", str(model.path), fault, "a whole network (m0.pt)",
                                    "Set head: previous in params.yaml")])
        layers, features = region_layers(model.backbone, settings.fc, settings.dropout, settings.fc_init)
        head = DetectionHead(layers, features, len(classes), settings.pooling)
        head.set_statistics(torch.from_numpy(batches.mean), torch.from_numpy(batches.std))
        return head
    assert previous is not None
    earlier = model_file.read(previous, "head")
    earlier.require(classes)
    if earlier.backbone.name != model.backbone.name:
        name = earlier.backbone.name
        raise InputError([Fault("other backbone", str(previous), f"is {name}", model.backbone.name, "Run: dvc repro")])
    if (pooling := earlier.sections["head"].get("pooling", "max")) != settings.pooling:
        problem = f"pools its regions by {pooling}, and this training by {settings.pooling}"
        remedy = f"Set pooling: {pooling} in this training's block, or {settings.pooling} in that head's"
        raise InputError([Fault("other pooling", str(previous), problem, "the same in both trainings", remedy)])
    head = restore_head(model.backbone, earlier.sections["head"], len(classes), settings.dropout)
    if settings.head == "outputs":
        head = DetectionHead(head.layers, head.features, len(classes), settings.pooling)
        head.set_statistics(torch.from_numpy(batches.mean), torch.from_numpy(batches.std))
    batches.mean, batches.std = head.mean.numpy().copy(), head.std.numpy().copy()
    return head


def freeze(network: FastNetwork, settings: FastTraining, boxes_only: bool) -> None:
    """Freezes batch norm, the frozen parts of the trunk and, without a box loss, the box layer.

    boxes_only : everything but the box layer is frozen (the second phase of `stage_wise`)
    """
    network.requires_grad_(not boxes_only)
    network.head.box.requires_grad_(boxes_only or settings.box_loss != "none")
    for part in list(network.trunk)[: None if settings.frozen == "all" else settings.frozen]:
        part.requires_grad_(False)
    freeze_norms(network)


def item_losses(
    network: FastNetwork, trunk: TrainedTrunk, item: FastExample, settings: FastTraining, device: Device
) -> training.Part:
    """The losses of one image of a batch; `trunk` runs the network's trunk in training."""
    label, target = device.put(item.label), device.put(item.target)
    foreground = device.put(np.flatnonzero(item.label))
    maps = trunk(to_input(item.image, network.recipe, device), item.key)
    logits, deltas = network.head(network.pool(maps, device.put(item.rois)))
    box_loss, beta = settings.box_loss, settings.beta
    losses = head_loss(logits, deltas, label, target, foreground, item.total, box_loss, beta, settings.box_weight)
    return training.Part(losses, [item.key[0]])


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: FastTraining, f"{method}.proposals_max": ProposalsMax}


def task(given: Given) -> Task:
    """Fast R-CNN's network on proposals. Reads the roles `model`, `proposals` and, unless `head: fresh`, `head`.

    Further sections of `model` (an RPN) are copied to the result unchanged. A pass is over the images with regions to
    learn from, in each phase.
    """
    settings, images = given.settings, given.images
    settings.phases(given.block)  # refuses what contradicts itself before long work
    if settings.head != "fresh" and "head" not in given.roles:
        problem = f"is {settings.head!r}, and the stage's command in dvc.yaml gives no model in the role head"
        raise InputError([Fault("no head", f"params.yaml: {given.block}.head", problem, "fresh", "Set head: fresh")])
    batches = FastBatches(images, given.proposals(), settings, given.seed, given.stage)
    settings = settings.resolved(len(batches.ids), batches.per_batch)
    phase_settings = settings.phases(given.block)
    torch.manual_seed(given.seed)
    model = model_file.read(given.path("model"))
    previous = None if settings.head == "fresh" else given.path("head")
    head = start_head(model, previous, images.classes, settings, batches)
    network = FastNetwork(model.backbone, head)

    def phases() -> Iterator[Phase]:
        for number, phase in enumerate(phase_settings):
            freeze(network, phase, boxes_only=number > 0)
            frozen = None if number or settings.frozen == "all" else settings.frozen
            trunk = TrainedTrunk(network.trunk, frozen, given.device.torch_device, given.memory)

            def losses(item: FastExample, trunk: TrainedTrunk = trunk, phase: FastTraining = phase) -> training.Part:
                return item_losses(network, trunk, item, phase, given.device)

            yield Phase(phase, [head.score, head.box], batches, losses)

    def sections() -> dict[str, Any]:
        trained = {**model.sections, "head": describe_head(head, settings.fc, settings.dropout)}
        return model_file.contents(model.backbone, images.classes, settings.scale, **trained)

    iterations = len(phase_settings) * settings.steps
    work = (f"{iterations} iterations of {settings.images} images; "
            f"{len(batches.left_out)} of {len(images)} images have no region to learn from")
    return Task(network, phases, iterations, sections, work)
