"""The training of a region proposal network: whole images, 256 anchors of each (Faster R-CNN §3.1.2 and §3.1.3).

K objects of an image, A anchors of it.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones import model_file
from lib.backbones.device import Device, Precision
from lib.backbones.scaling import Scale, to_input
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster.network import ProposalNetwork
from lib.detectors.faster.rpn import RPN, Anchors, ProposerGrid, RpnLayers, one_size
from lib.images.image_set import ImageSet
from lib.training import loop as training
from lib.training.anchor_fit import anchor_fit
from lib.training.optimisation import Optimisation
from lib.training.order import images_of
from lib.training.task import Given, Task, once
from lib.training.trunk import TrainedTrunk


class RpnTraining(Optimisation):
    """Blocks `faster.m1` and `faster.m3`: the optimisation, and

    scale     : of the images, one size
    images    : of a batch (paper: 1)
    mirror    : probability of mirroring an image (paper: 0.5; the authors' set holds each image in both ways)
    frozen    : leading parts of the trunk that are not trained, or all (paper: VGG16's first 10 in step 1, all in 3)
    targets, loss : see `targets`;  precision : of the forward passes
    """

    scale: Scale
    images: int = Field(ge=1)
    mirror: float = Field(ge=0, le=1)
    frozen: int | Literal["all"]
    targets: rpn_targets.AnchorTargets
    loss: rpn_targets.RpnLoss
    precision: Precision


@dataclass(frozen=True)
class RpnExample:
    """One image of a batch.

    image   : uint8 (H, W, 3) as the network sees it;  key : position of the image, and whether it is mirrored
    anchors : its sample;  divide_by : the divisors of the whole batch
    """

    image: NDArray[np.uint8]
    key: tuple[int, bool]
    image_id: str
    anchors: rpn_targets.AnchorSample
    divide_by: rpn_targets.Divisors


class RpnBatches:
    """The mini-batches of one training; batch i is a pure function of (seed, stage, i)."""

    def __init__(
        self, image_set: ImageSet, anchors: ProposerGrid, settings: RpnTraining, seed: int, stage: str
    ) -> None:
        self._image_set, self._anchors = image_set, anchors
        self._settings = settings
        self._seed, self._stage = seed, stage
        self._scale = one_size(settings.scale, stage)

    def __call__(self, i: int) -> list[RpnExample]:
        """The images of batch i with their anchors."""
        settings, random = self._settings, training.generator(self._seed, self._stage, i)
        inputs = []
        for position in images_of(self._seed, self._stage, i, settings.images, len(self._image_set)):
            image_id, mirrored = self._image_set.ids[position], bool(random.random() < settings.mirror)
            image, objects = rpn_targets.view(self._image_set, image_id, self._scale, mirrored)
            size = image.shape[1], image.shape[0]
            anchors, per_cell = self._anchors.of_image(*size), self._anchors.settings.count
            anchor_sample = rpn_targets.sample(anchors, size, objects, per_cell, settings.targets, random)
            inputs.append((image, (position, mirrored), image_id, anchor_sample))
        divide_by = rpn_targets.divisors([sample for *_, sample in inputs], settings.loss, settings.targets)
        return [RpnExample(*image_inputs, divide_by) for image_inputs in inputs]


def item_losses(
    network: ProposalNetwork, trunk: TrainedTrunk, item: RpnExample, settings: RpnTraining, device: Device
) -> training.Part:
    """The losses of one image of a batch."""
    logits, deltas = network.rpn(trunk(to_input(item.image, network.recipe, device), item.key))
    losses = rpn_targets.losses(logits, deltas, item.anchors, item.divide_by, settings.loss, device)
    return training.Part(losses, [item.image_id])


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: RpnTraining, f"{method}.anchors": Anchors, f"{method}.rpn": RpnLayers}


def task(given: Given) -> Task:
    """A fresh region proposal network on the trunk of the role `model`: M0's, fine-tuned (M1), or M2's, frozen (M3).

    A pass is over all images: those without an anchor inside, which teach nothing, are drawn like the others.
    """
    images = given.images
    settings = given.settings.resolved(len(images), given.settings.images)
    model = model_file.read(given.path("model"))
    torch.manual_seed(given.seed)
    anchors = given.params[f"{given.method}.anchors"]
    rpn = RPN(model.backbone.channels, given.params[f"{given.method}.rpn"], anchors, model.backbone.stride)
    network = ProposalNetwork(model.backbone, rpn)
    frozen = None if settings.frozen == "all" else settings.frozen
    trunk = TrainedTrunk(network.trunk, frozen, given.device.torch_device, given.memory)
    batches = RpnBatches(images, rpn.anchors, settings, given.seed, given.stage)
    scale, positive = one_size(settings.scale, given.stage), settings.targets.positive
    fit = anchor_fit(images, rpn.anchors, scale, positive, given.method, given.block)
    return Task(
        network,
        once(settings, [rpn], batches, lambda item: item_losses(network, trunk, item, settings, given.device)),
        settings.steps,
        lambda: model_file.contents(model.backbone, images.classes, settings.scale, rpn=rpn.describe()),
        f"{settings.steps} iterations of {settings.images} images, {len(fit.unused)} of "
        f"{len(images)} images without an anchor inside",
        cautions=fit.cautions, plots={"anchors": fit.classes},
    )
