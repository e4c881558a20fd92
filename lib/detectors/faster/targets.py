"""What the region proposal network learns from an image (Faster R-CNN paper §3.1.2; anchor_target_layer.py).

A anchors of an image, I of them inside it, K objects, S sampled anchors of which P are positive.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

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
    anchors            : sampled from an image (paper: 256)
    positive_share     : of them that may be positive; negatives fill up what is missing (paper: 0.5)
    """

    positive: float = Field(gt=0, le=1)
    negative: float = Field(gt=0, le=1)
    anchors: int = Field(ge=1)
    positive_share: float = Field(gt=0, le=1)


class RpnLoss(Settings):
    """Block `loss` of an RPN's training.

    normaliser : sampled (authors' Python: both terms by the anchors sampled) or paper (classification by the anchors
                 asked for, N_cls = 256; boxes by the positions of the map, N_reg about 2400)
    box_weight : λ (with sampled: 1; with paper: 10, which is nearly the same balance)
    sigma      : the smooth L1 loss is quadratic below 1/σ² (authors' Python: 3; Fast R-CNN paper: 1)
    """

    normaliser: str = Field(pattern="^(sampled|paper)$")
    box_weight: float = Field(ge=0)
    sigma: float = Field(gt=0)


@dataclass(frozen=True)
class AnchorSample:
    """The anchors of an image that take part in its loss. S is 0 where no anchor lies inside the image.

    rows      : int64 (S,) rows of the image's anchors, the positives first
    targets   : float32 (P, 4) box deltas of the positives
    positions : cells of the map
    """

    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    positions: int


def sample(
    anchors: Boxes, size: tuple[int, int], objects: Boxes, per_cell: int, settings: AnchorTargets,
    random: np.random.Generator,
) -> AnchorSample:
    """Draws the anchors of an image: at most the share of positives, then negatives up to the number asked for.

    anchors : float32 (A, 4), all of the map;  size : width and height of the resized image
    objects : float32 (K, 4) in its pixels;  per_cell : anchors at a cell

    Both are drawn without replacement. An image in which no anchor lies inside gives an empty sample and so a loss of
    exactly 0: anchors across the border are never trained, whatever the image.
    """
    usable = inside(anchors, *size)
    # Positive are the anchors at or above the threshold and, for each object, those that overlap it most, all ties.
    found = assign(anchors[usable], objects, settings.positive, settings.negative, best="ties")
    positives, negatives = np.flatnonzero(found.label == POSITIVE), np.flatnonzero(found.label == NEGATIVE)
    positives = _choose(positives, int(settings.anchors * settings.positive_share), random)
    negatives = _choose(negatives, settings.anchors - len(positives), random)
    targets = encode(anchors[usable[positives]], objects[found.object[positives]])
    return AnchorSample(usable[np.concatenate([positives, negatives])], targets, len(anchors) // per_cell)


def _choose(rows: NDArray[np.int64], most: int, random: np.random.Generator) -> NDArray[np.int64]:
    return random.choice(rows, most, replace=False) if len(rows) > most else rows


@dataclass(frozen=True)
class Divisors:
    """What the sums of a batch's losses are divided by; at least 1, so that an empty batch has a loss of 0."""

    objectness: float
    boxes: float


def divisors(samples: list[AnchorSample], settings: RpnLoss, targets: AnchorTargets) -> Divisors:
    """The divisors of a batch of images: sums over its images of what `RpnLoss.normaliser` names."""
    if settings.normaliser == "paper":
        return Divisors(targets.anchors * len(samples), sum(one.positions for one in samples))
    sampled = max(sum(len(one.rows) for one in samples), 1)
    return Divisors(sampled, sampled)


def losses(logits: Tensor, deltas: Tensor, drawn: AnchorSample, by: Divisors, settings: RpnLoss) -> dict[str, Tensor]:
    """The two losses of an image, its shares of those of the batch.

    logits : float (A,) log-odds of an object;  deltas : float (A, 4);  by : of the batch

    With two outputs for an anchor the log-odds are their difference: then this is their softmax loss.
    Raises ValueError where the map has other cells than `drawn` was made for: its rows would be other anchors.
    """
    if len(logits) % drawn.positions:
        raise ValueError(f"{len(logits)} anchors for a map of {drawn.positions} cells")
    device = logits.device
    rows = torch.from_numpy(drawn.rows).to(device)
    wanted = torch.zeros(len(rows), device=device)
    wanted[: len(drawn.targets)] = 1
    moves, targets = deltas[rows[: len(drawn.targets)]].float(), torch.from_numpy(drawn.targets).to(device)
    objectness = nn.functional.binary_cross_entropy_with_logits(logits[rows].float(), wanted, reduction="sum")
    boxes = nn.functional.smooth_l1_loss(moves, targets, reduction="sum", beta=settings.sigma**-2)
    return {"rpn_objectness": objectness / by.objectness, "rpn_boxes": settings.box_weight * boxes / by.boxes}


def view(image_set: ImageSet, image_id: str, scale: Scale, mirrored: bool) -> tuple[NDArray[np.uint8], Boxes]:
    """An image as the network sees it, uint8 (H, W, 3), and its objects in its pixels, float32 (K, 4)."""
    image, (objects, _) = image_set.image(image_id), image_set.objects(image_id)
    if mirrored:
        image, objects = np.ascontiguousarray(image[:, ::-1]), flip(objects, image.shape[1])
    factor = scale.factors(image.shape[1], image.shape[0])[0]
    return resize(image, factor), objects * np.float32(factor)
