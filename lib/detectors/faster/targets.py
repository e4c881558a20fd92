"""Which anchors of an image the region proposal network learns from, their box targets, and its two losses.

Faster R-CNN §3.1.2; the authors' anchor_target_layer.py. A anchors of an image, K objects, S sampled anchors of
which P are positive.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones.device import Device
from lib.backbones.scaling import Scale, resize
from lib.boxes.anchors import inside
from lib.boxes.assign import NEGATIVE, POSITIVE, assign
from lib.boxes.boxes import Boxes, flip
from lib.boxes.coding import encode
from lib.images.image_set import ImageSet
from lib.stage.params import Settings


class AnchorTargets(Settings):
    """Block `targets` of an RPN's training.

    positive, negative : IoU from which an anchor is positive, below which it is negative (paper: 0.7, 0.3)
    anchors            : to sample from an image (paper: 256)
    positive_share     : largest share of positives among them; the rest are negatives (paper: 0.5)
    """

    positive: float = Field(gt=0, le=1)
    negative: float = Field(gt=0, le=1)
    anchors: int = Field(ge=1)
    positive_share: float = Field(gt=0, le=1)


class RpnLoss(Settings):
    """Block `loss` of an RPN's training.

    normaliser : sampled (authors' Python: both terms divided by the number of sampled anchors) or paper (classification
                 by the setting `anchors`, N_cls = 256; boxes by the cells of the feature map, N_reg about 2400)
    box_weight : λ (with sampled: 1; with paper: 10, which balances the terms nearly alike)
    sigma      : the smooth L1 loss is quadratic below 1/σ² (authors' Python: 3; Fast R-CNN paper: 1)
    """

    normaliser: str = Field(pattern="^(sampled|paper)$")
    box_weight: float = Field(ge=0)
    sigma: float = Field(gt=0)


@dataclass(frozen=True)
class AnchorSample:
    """The sampled anchors of an image, which make its loss. S is 0 where no anchor lies inside the image.

    rows      : int64 (S,) rows of the image's anchors, the positives first
    targets   : float32 (P, 4) box deltas of the positives
    positions : number of cells of the feature map
    """

    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    positions: int


def sample(
    anchors: Boxes, size: tuple[int, int], objects: Boxes, per_cell: int, settings: AnchorTargets,
    random: np.random.Generator,
) -> AnchorSample:
    """Samples anchors of an image: positives up to their share, then negatives up to `settings.anchors`.

    anchors : float32 (A, 4), all of the feature map;  size : width and height of the resized image
    objects : float32 (K, 4) in its pixels;  per_cell : anchors at a cell

    Both are sampled without replacement. Anchors that cross the border of the image are never trained: an image in
    which no anchor lies inside gives an empty sample and so a loss of exactly 0.
    """
    inner = inside(anchors, *size)
    # Positive are the anchors at or above the threshold and, for each object, those that overlap it most, with ties.
    assigned = assign(anchors[inner], objects, settings.positive, settings.negative, best="ties")
    positives, negatives = np.flatnonzero(assigned.label == POSITIVE), np.flatnonzero(assigned.label == NEGATIVE)
    positives = _sample_rows(positives, int(settings.anchors * settings.positive_share), random)
    negatives = _sample_rows(negatives, settings.anchors - len(positives), random)
    targets = encode(anchors[inner[positives]], objects[assigned.object[positives]])
    return AnchorSample(inner[np.concatenate([positives, negatives])], targets, len(anchors) // per_cell)


def _sample_rows(rows: NDArray[np.int64], most: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.choice(rows, most, replace=False) if len(rows) > most else rows


@dataclass(frozen=True)
class Divisors:
    """What the sums of a batch's losses are divided by; at least 1, so that an empty batch has a loss of 0."""

    objectness: float
    boxes: float


def divisors(samples: list[AnchorSample], settings: RpnLoss, targets: AnchorTargets) -> Divisors:
    """The divisors of a batch of images: sums over its images of what `RpnLoss.normaliser` names."""
    if settings.normaliser == "paper":
        return Divisors(targets.anchors * len(samples), sum(anchors.positions for anchors in samples))
    sampled = max(sum(len(anchors.rows) for anchors in samples), 1)
    return Divisors(sampled, sampled)


def losses(
    logits: Tensor, deltas: Tensor, anchors: AnchorSample, divide_by: Divisors, settings: RpnLoss, device: Device
) -> dict[str, Tensor]:
    """The two losses of an image, each its share of the loss of the batch.

    logits : float (A,) log-odds of an object;  deltas : float (A, 4);  divide_by : the divisors of the batch
    device : where both are

    With two outputs per anchor the log-odds are their difference: then this is their softmax loss.
    Raises ValueError where the feature map has other cells than those sampled from: the rows would be other anchors.
    """
    if len(logits) % anchors.positions:
        raise ValueError(f"{len(logits)} anchors for a feature map of {anchors.positions} cells")
    positives, rows = len(anchors.targets), device.put(anchors.rows)
    labels = torch.zeros(len(rows), device=device.torch_device)
    labels[:positives] = 1
    predicted, targets = deltas[rows[:positives]].float(), device.put(anchors.targets)
    objectness = nn.functional.binary_cross_entropy_with_logits(logits[rows].float(), labels, reduction="sum")
    boxes = nn.functional.smooth_l1_loss(predicted, targets, reduction="sum", beta=settings.sigma**-2)
    return {
        "rpn_objectness": objectness / divide_by.objectness,
        "rpn_boxes": settings.box_weight * boxes / divide_by.boxes,
    }


def view(image_set: ImageSet, image_id: str, scale: Scale, mirrored: bool) -> tuple[NDArray[np.uint8], Boxes]:
    """An image as the network sees it, uint8 (H, W, 3), and its objects in the same pixels, float32 (K, 4)."""
    image, (objects, _) = image_set.image(image_id), image_set.objects(image_id)
    if mirrored:
        image, objects = np.ascontiguousarray(image[:, ::-1]), flip(objects, image.shape[1])
    factor = scale.factors(image.shape[1], image.shape[0])[0]
    return resize(image, factor), objects * np.float32(factor)
