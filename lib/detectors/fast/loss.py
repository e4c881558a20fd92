"""The multi-task loss of a detection head (Fast R-CNN §2.3, equations 1 to 3; the authors' smooth_L1_loss_layer.cu)."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

BoxLoss = Literal["smooth_l1", "l2", "none"]


def head_loss(
    logits: Tensor, deltas: Tensor, label: Tensor, target: Tensor, total: int, box_loss: BoxLoss, beta: float, weight: float
) -> dict[str, Tensor]:
    """One image's share of the loss of a batch. R regions of the image, C classes without background.

    logits   : float (R, C+1);  deltas : float (R, C+1, 4), normalised, of which those of the true class count
    label    : int64 (R,), 0 for background;  target : float32 (R, 4), normalised;  R may be 0
    total    : regions of the whole batch, by which both sums are divided: of foreground **and** background, and not times
               the four coordinates (a batch without regions: 1)
    box_loss : smooth_l1: d² / (2 beta) below `beta`, |d| - beta / 2 above (beta 1: equation 3; 1 / σ² in py-faster-rcnn);
               l2: d² / 2 (R-CNN, SPPnet); none
    weight   : λ of the box loss
    returns  : `softmax`, and `boxes` unless there is none: scalars, exactly 0 without regions, or without foreground
    """
    count, kind = max(total, 1), torch.promote_types(logits.dtype, torch.float32)
    losses = {"softmax": functional.cross_entropy(logits.to(kind), label, reduction="sum") / count}
    if box_loss != "none":
        good = label > 0
        moves, wanted = deltas.to(kind)[good, label[good]], target[good]
        if box_loss == "l2":
            loss = functional.mse_loss(moves, wanted, reduction="sum") / 2
        else:
            loss = functional.smooth_l1_loss(moves, wanted, reduction="sum", beta=beta)
        losses["boxes"] = weight * loss / count
    return losses
