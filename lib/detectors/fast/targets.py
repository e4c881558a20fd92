"""Which regions of an image a detection head learns from, their box targets, and the multi-task loss.

Fast R-CNN §2.3, equations 1 to 3; the authors' roidb.py, minibatch.py, smooth_L1_loss_layer.cu. R regions of an image,
C classes without background; labels are 0 for background and 1 to C.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from lib.backbones.device import Precision
from lib.backbones.region_layers import FcInit
from lib.backbones.scaling import Scale
from lib.boxes.assign import POSITIVE, assign
from lib.boxes.boxes import Boxes, clip
from lib.boxes.coding import encode
from lib.pooling.roi import Pooling
from lib.stage.errors import Fault, InputError
from lib.training.optimisation import Optimisation

BoxLoss = Literal["smooth_l1", "l2", "none"]
FIXED_STD = (0.1, 0.1, 0.2, 0.2)  # py-faster-rcnn's config.py, for every class


@dataclass(frozen=True)
class Regions:
    """Regions of one image with their labels and targets.

    boxes   : float32 (R, 4), the image's objects first
    overlap : float32 (R,)  largest IoU with an object, 1 for the objects, 0 in an image without
    label   : int64 (R,)    class of that object (ties go to the first) where `overlap` is at least `foreground`, else 0
    target  : float32 (R, 4)  deltas onto that object, not normalised; 0 where the label is 0
    """

    boxes: Boxes
    overlap: NDArray[np.float32]
    label: NDArray[np.int64]
    target: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: NDArray[np.int64]) -> "Regions":
        return Regions(self.boxes[rows], self.overlap[rows], self.label[rows], self.target[rows])


def label_regions(
    objects: Boxes, labels: NDArray[np.int64], proposals: Boxes, size: tuple[int, int], foreground: float
) -> Regions:
    """The objects and the proposals of an image as training regions.

    objects    : float32 (S, 4); S may be 0;  labels : int64 (S,) from 0
    proposals  : float32 (P, 4); clipped to the image; those without area left are dropped
    size       : width and height of the image
    foreground : IoU from which a region takes its object's class (paper: 0.5)
    """
    proposals = clip(proposals, *size)
    boxes = np.concatenate([objects, proposals[(proposals[:, 2:] > proposals[:, :2]).all(axis=1)]]).astype(np.float32)
    assigned = assign(boxes, objects, foreground, foreground, best="none")
    positive = assigned.label == POSITIVE
    label, target = np.zeros(len(boxes), np.int64), np.zeros((len(boxes), 4), np.float32)
    label[positive] = labels[assigned.object[positive]] + 1
    target[positive] = encode(boxes[positive], objects[assigned.object[positive]])
    return Regions(boxes, assigned.overlap.astype(np.float32), label, target)


def sample(
    regions: Regions, count: int, foreground_share: float, background: tuple[float, float], random: np.random.Generator
) -> NDArray[np.int64]:
    """Rows of one image's share of a batch, foreground first, each part sampled uniformly without replacement.

    count            : regions to sample (paper: 64, half of 128)
    foreground_share : at most round(count * share) of them are foreground (paper: 0.25); the rest is background
    background       : IoU from which and below which a region is background (paper: 0.1 and 0.5). Where no region lies
                       between, the lower limit is 0: an image without objects is all background
    returns          : int64, fewer than `count` where there are not enough; no region is repeated
    """
    positives = np.flatnonzero(regions.label > 0)
    lower, upper = background
    below_upper = (regions.label == 0) & (regions.overlap < upper)
    hard = np.flatnonzero(below_upper & (regions.overlap >= lower))
    negatives = hard if len(hard) else np.flatnonzero(below_upper)
    foreground_count = min(round(count * foreground_share), len(positives))
    foreground_rows = random.choice(positives, foreground_count, replace=False)
    background_rows = random.choice(negatives, min(count - foreground_count, len(negatives)), replace=False)
    return np.concatenate([foreground_rows, background_rows]).astype(np.int64)


class Statistics:
    """Mean and standard deviation of the targets of each class, over all foreground regions of all images.

    Paper §2.3: "zero mean and unit variance"; roidb.py: over all, not the sampled ones, the objects included.

    classes : C
    mirror  : probability of mirroring an image, which negates dx: at 0.5 the statistics are those of the authors' set,
              which holds every image twice
    """

    def __init__(self, classes: int, mirror: float) -> None:
        self._count = np.zeros(classes + 1)
        self._sum, self._squares = np.zeros((2, classes + 1, 4))
        self._mirror = mirror

    def add(self, regions: Regions) -> None:
        """Adds the regions of one image."""
        foreground = regions.label > 0
        label, target = regions.label[foreground], regions.target[foreground].astype(np.float64)
        np.add.at(self._count, label, 1)
        np.add.at(self._sum, label, target)
        np.add.at(self._squares, label, target**2)

    def result(self, floor: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation, each float32 (C+1, 4).

        floor : smallest deviation: a class with one region would have 0, and its targets would be infinite

        Classes without regions get 0 and `FIXED_STD`, background 0 and 1: neither is ever trained.
        """
        count = np.maximum(self._count, 1)[:, None]
        mean = self._sum / count
        mean[:, 0] *= 1 - 2 * self._mirror
        std = np.sqrt(np.maximum(self._squares / count - mean**2, 0))
        std = np.where(self._count[:, None] > 0, np.maximum(std, floor), FIXED_STD)
        std[0] = 1
        return mean.astype(np.float32), std.astype(np.float32)


def fixed_statistics(classes: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean 0 and `FIXED_STD` for every class, as float32 (C+1, 4) each (py-faster-rcnn, end-to-end training)."""
    std = np.tile(np.array(FIXED_STD, np.float32), (classes + 1, 1))
    std[0] = 1
    return np.zeros((classes + 1, 4), np.float32), std


class HeadTraining(Optimisation):
    """The settings of every training of a detection head: the optimisation, and

    scale            : of the images; of several sizes each image gets one at random
    images, regions  : of a batch (paper: 2, 128)
    foreground_share : largest share of foreground (paper: 0.25)
    foreground       : IoU from which a region is foreground (paper: 0.5)
    background       : IoU from which and below which it is background (paper: 0.1, 0.5; py-faster-rcnn: 0, 0.5)
    mirror           : probability of mirroring an image (paper: 0.5; the authors' set holds each image in both ways)
    pooling          : of the regions: max (paper) or align (RoIAlign), see lib/pooling/roi.py
    fc, dropout      : of the region layers, see `region_layers`
    fc_init          : start of fresh fc6 and fc7, see `region_layers`
    box_loss, beta   : smooth_l1, quadratic below `beta` (paper: 1), l2 (R-CNN's) or none (§5.1: classification only)
    box_weight       : λ of the box loss (paper: 1)
    precision        : of the forward passes
    """

    scale: Scale
    images: int = Field(ge=1)
    regions: int = Field(ge=1)
    foreground_share: float = Field(ge=0, le=1)
    foreground: float = Field(gt=0, le=1)
    background: list[float] = Field(min_length=2, max_length=2)
    mirror: float = Field(ge=0, le=1)
    pooling: Pooling
    fc: int = Field(ge=1)
    fc_init: FcInit
    dropout: float = Field(ge=0, lt=1)
    box_loss: BoxLoss
    beta: float = Field(gt=0)
    box_weight: float = Field(ge=0)
    precision: Precision


class FastTraining(HeadTraining):
    """Blocks `fast.train`, `faster.m2`, `faster.m4`: see `HeadTraining`, and

    regions           : of a batch (paper: 128); each image gives regions / images of them, fewer where it has fewer
    head              : fresh, or the file's whole in the role `head` (previous), or fresh outputs on that file's fc6
                        and fc7 (outputs: py-faster-rcnn's step 4)
    frozen            : leading parts of the trunk that are not trained, or all (paper: VGG16's first 10)
    stage_wise        : first without the box loss, then as many iterations of the box layer alone (§5.1)
    statistics        : of the targets: per_class (paper), at least `std_floor`, or fixed (py-faster-rcnn's end-to-end)
    """

    head: Literal["fresh", "previous", "outputs"]
    frozen: int | Literal["all"]
    stage_wise: bool
    statistics: Literal["per_class", "fixed"]
    std_floor: float = Field(gt=0)

    def phases(self, block: str) -> list["FastTraining"]:
        """The trainings that follow each other: one, or two where it is stage-wise. `block` is for a message."""
        if self.stage_wise and self.box_loss == "none":
            problem = "is true, and box_loss: none leaves it nothing to do"
            remedy = "Set one of them, or stage_wise: false"
            where = f"params.yaml: {block}.stage_wise"
            raise InputError([Fault("bad setting", where, problem, "smooth_l1, l2", remedy)])
        return [self.model_copy(update={"box_loss": "none"}), self] if self.stage_wise else [self]


def head_loss(
    logits: Tensor, deltas: Tensor, label: Tensor, target: Tensor, foreground: Tensor, total: int, box_loss: BoxLoss,
    beta: float, weight: float,
) -> dict[str, Tensor]:
    """One image's share of the loss of a batch. R regions of the image, C classes without background.

    logits   : float (R, C+1);  deltas : float (R, C+1, 4), normalised; only those of the true class count
    label    : int64 (R,), 0 for background;  target : float32 (R, 4), normalised;  R may be 0
    foreground : int64, rows with a label above 0, which the host knows: a GPU would be waited for
    total    : regions of the whole batch, foreground **and** background, by which both sums are divided; not times the
               four coordinates; 1 for a batch without regions
    box_loss : smooth_l1: d² / (2 beta) below `beta`, |d| - beta / 2 above (beta 1: equation 3; 1/σ² in
               py-faster-rcnn); l2: d² / 2 (R-CNN, SPPnet); none
    weight   : λ of the box loss
    returns  : scalars `classification` and, unless `box_loss` is none, `boxes`; exactly 0 without regions, and `boxes`
               without foreground
    """
    count, dtype = max(total, 1), torch.promote_types(logits.dtype, torch.float32)
    losses = {"classification": functional.cross_entropy(logits.to(dtype), label, reduction="sum") / count}
    if box_loss != "none":
        predicted, wanted = deltas.to(dtype)[foreground, label[foreground]], target[foreground]
        if box_loss == "l2":
            loss = functional.mse_loss(predicted, wanted, reduction="sum") / 2
        else:
            loss = functional.smooth_l1_loss(predicted, wanted, reduction="sum", beta=beta)
        losses["boxes"] = weight * loss / count
    return losses
