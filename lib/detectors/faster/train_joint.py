"""Approximate joint training: proposer and detector on one trunk, all losses at once (Faster R-CNN §3.2).

The authors' Python code only (models/…/faster_rcnn_end2end, proposal_target_layer.py). The current proposals count as
fixed: no gradient goes through their coordinates, which is what is approximate.

R regions, C classes without background, K objects of an image.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.frozen import FrozenNorm, freeze_norms
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import to_input
from lib.boxes.boxes import Boxes
from lib.detectors.fast import targets as region_sampling
from lib.detectors.fast.network import DetectionHead, FastNetwork, describe_head
from lib.detectors.fast.targets import HeadTraining, head_loss
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster.rpn import RPN, Anchors, ProposerGrid, Proposing, RpnLayers, one_size, propose
from lib.detectors.faster.targets import view
from lib.images.image_set import ImageSet
from lib.training import loop as training
from lib.training.anchor_fit import anchor_fit
from lib.training.order import images_of
from lib.training.task import Given, Task, once
from lib.training.trunk import TrainedTrunk


class JointTraining(HeadTraining):
    """Block `faster_joint.train`: see `HeadTraining`, and

    scale           : one size;  images : their gradients are averaged (authors: 2 for VGG16 and ZF)
    regions         : of an image (authors: 128)
    frozen          : leading parts of the trunk that are not trained (VGG16: 10)
    targets, loss   : of the proposer, see `targets`;  proposing : boxes that become regions (12000, 2000, 0.7, 16)

    The statistics of the detector's targets are fixed: they cannot be known before the proposals are.
    """

    frozen: int = Field(ge=0)
    targets: rpn_targets.AnchorTargets
    loss: rpn_targets.RpnLoss
    proposing: Proposing


class JointNetwork(FrozenNorm):
    """A Fast R-CNN network, `detector`, and a proposer, `rpn`, on its trunk."""

    def __init__(self, backbone: Backbone, rpn: RPN, head: DetectionHead) -> None:
        super().__init__()
        self.detector, self.rpn = FastNetwork(backbone, head), rpn
        freeze_norms(self)
        mean, std = region_sampling.fixed_statistics(len(head.std) - 1)
        head.set_statistics(torch.from_numpy(mean), torch.from_numpy(std))


@dataclass(frozen=True)
class JointExample:
    """One image of a batch.

    image   : uint8 (H, W, 3) as the network sees it;  key : position of the image, and whether it is mirrored
    factor  : scaled / original;  objects : float32 (K, 4) in pixels of `image`;  labels : int64 (K,) from 0
    anchors : the proposer's sample;  seed : for sampling the detector's regions
    """

    image: NDArray[np.uint8]
    key: tuple[int, bool]
    image_id: str
    factor: float
    objects: Boxes
    labels: NDArray[np.int64]
    anchors: rpn_targets.AnchorSample
    seed: int


class JointBatches:
    """The mini-batches of one training; batch i is a pure function of (seed, stage, i)."""

    def __init__(
        self, image_set: ImageSet, anchors: ProposerGrid, settings: JointTraining, seed: int, stage: str
    ) -> None:
        self._image_set, self._anchors = image_set, anchors
        self._settings = settings
        self._seed, self._stage = seed, stage
        self._scale = one_size(settings.scale, stage)

    def __call__(self, i: int) -> list[JointExample]:
        """The images of batch i with the proposer's anchors; the regions are sampled once there are proposals."""
        random, examples = training.generator(self._seed, self._stage, i), []
        for position in images_of(self._seed, self._stage, i, self._settings.images, len(self._image_set)):
            image_id, mirrored = self._image_set.ids[position], bool(random.random() < self._settings.mirror)
            image, objects = view(self._image_set, image_id, self._scale, mirrored)
            size = image.shape[1], image.shape[0]
            anchors, per_cell = self._anchors.of_image(*size), self._anchors.settings.count
            anchor_sample = rpn_targets.sample(anchors, size, objects, per_cell, self._settings.targets, random)
            factor = self._scale.factors(*self._image_set.size(image_id))[0]
            labels = self._image_set.objects(image_id)[1]
            seed, key = int(random.integers(2**31)), (position, mirrored)
            examples.append(JointExample(image, key, image_id, factor, objects, labels, anchor_sample, seed))
        return examples


def item_losses(
    network: JointNetwork, trunk: TrainedTrunk, item: JointExample, settings: JointTraining, device: Device
) -> training.Part:
    """The four losses of one image of a batch, each its share of the mean over the images."""
    maps = trunk(to_input(item.image, network.detector.recipe, device), item.key)
    logits, deltas = network.rpn(maps)
    divide_by = rpn_targets.divisors([item.anchors], settings.loss, settings.targets)
    losses = rpn_targets.losses(logits, deltas, item.anchors, divide_by, settings.loss, device)

    size = item.image.shape[1], item.image.shape[0]
    anchors = network.rpn.anchors_on(maps, device)
    proposals, _ = propose(anchors, logits, deltas, size, item.factor, settings.proposing, device)
    regions = regions_of(item, proposals, size, settings)
    label, foreground = device.put(regions.label), device.put(np.flatnonzero(regions.label))
    head = network.detector.head
    target = (device.put(regions.target) - head.mean[label]) / head.std[label]
    rois = np.hstack([np.zeros((len(regions), 1), np.float32), regions.boxes])
    scores, moves = head(network.detector.pool(maps, device.put(rois)))
    losses |= head_loss(
        scores, moves, label, target, foreground, len(regions), settings.box_loss, settings.beta, settings.box_weight
    )
    if settings.box_loss == "none":  # the box layer is not frozen, and the loop needs a gradient for it: 0
        losses["classification"] = losses["classification"] + 0 * moves.sum()
    return training.Part({name: value / settings.images for name, value in losses.items()}, [item.image_id])


def regions_of(
    item: JointExample, proposals: Boxes, size: tuple[int, int], settings: JointTraining
) -> region_sampling.Regions:
    """The regions that the detector learns from, sampled from objects and proposals; in pixels of the scaled image."""
    regions = region_sampling.label_regions(item.objects, item.labels, proposals, size, settings.foreground)
    lower, upper = settings.background
    random = np.random.default_rng(item.seed)
    share = settings.foreground_share
    return regions[region_sampling.sample(regions, settings.regions, share, (lower, upper), random)]


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: JointTraining, f"{method}.anchors": Anchors, f"{method}.rpn": RpnLayers}


def task(given: Given) -> Task:
    """Proposer and detector on M0's trunk. Reads the role `model` (M0). A pass is over all images."""
    images = given.images
    settings = given.settings.resolved(len(images), given.settings.images)
    model = model_file.read(given.path("model"))
    torch.manual_seed(given.seed)
    anchors = given.params[f"{given.method}.anchors"]
    rpn = RPN(model.backbone.channels, given.params[f"{given.method}.rpn"], anchors, model.backbone.stride)
    layers, features = region_layers(model.backbone, settings.fc, settings.dropout, settings.fc_init)
    head = DetectionHead(layers, features, len(images.classes), settings.pooling)
    network = JointNetwork(model.backbone, rpn, head)
    trunk = TrainedTrunk(network.detector.trunk, settings.frozen, given.device.torch_device, given.memory)
    batches = JointBatches(images, rpn.anchors, settings, given.seed, given.stage)
    scale, positive = one_size(settings.scale, given.stage), settings.targets.positive
    fit = anchor_fit(images, rpn.anchors, scale, positive, given.method, given.block)

    def sections() -> dict[str, Any]:
        trained = {"rpn": rpn.describe(), "head": describe_head(head, settings.fc, settings.dropout)}
        return model_file.contents(model.backbone, images.classes, settings.scale, **trained)

    return Task(
        network,
        once(settings, [rpn, head.score, head.box], batches,
             lambda item: item_losses(network, trunk, item, settings, given.device)),
        settings.steps, sections, f"{settings.steps} iterations of {settings.images} images",
        cautions=fit.cautions,
    )
