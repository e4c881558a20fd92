"""What one-stage detectors do about the many easy anchors: focal loss (RetinaNet), hard negatives of a softmax (SSD).

N images, A anchors, C classes. Labels: 0 background, 1 to C, and IGNORED.
"""

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from lib.boxes.assign import IGNORED
from lib.stage.params import Settings


class Focal(Settings):
    """Logistic losses of C classes, all anchors count, easy ones little (Lin et al. 2017, §3).

    alpha : weight of the positive class; 1 - alpha of the others (paper: 0.25)
    gamma : power of the error that the loss is multiplied by (paper: 2; 0: weighted cross-entropy)
    prior : probability that each class begins with (paper: 0.01)
    """

    name: Literal["focal"]
    alpha: float = Field(gt=0, lt=1)
    gamma: float = Field(ge=0)
    prior: float = Field(gt=0, lt=1)

    @property
    def background(self) -> bool:
        """False: see `Form`."""
        return False

    @property
    def first_bias(self) -> float:
        """Bias that the scores begin with, so that the first loss is not that of many wrong negatives."""
        return -math.log((1 - self.prior) / self.prior)

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """float32 (N,): the sum over the anchors of each image that are not ignored.

        scores : float (N, A, C);  labels : int64 (N, A)
        """
        classes = torch.arange(1, scores.shape[-1] + 1, device=labels.device)
        positive = labels[..., None] == classes
        losses = focal(scores.float(), positive, self.alpha, self.gamma).sum(dim=-1)
        return torch.where(labels == IGNORED, 0, losses).sum(dim=1)


class HardNegatives(Settings):
    """Softmax of C + 1 classes over the positives and the negatives of largest loss (Liu et al. 2016, §2.2).

    ratio : negatives of an image for each of its positives (paper: 3)
    least : at least so many negatives of each image, for images without objects to count (authors: 0)
    """

    name: Literal["hard_negatives"]
    ratio: float = Field(ge=0)
    least: int = Field(ge=0)

    @property
    def background(self) -> bool:
        """True: see `Form`."""
        return True

    @property
    def first_bias(self) -> float:
        """Bias that the scores begin with."""
        return 0.0

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        """float32 (N,): the sum over the positives and the chosen negatives of each image.

        scores : float (N, A, C + 1), background first;  labels : int64 (N, A)
        """
        # Flat: with the classes in the middle a GPU has no deterministic algorithm.
        losses = functional.cross_entropy(scores.float().flatten(0, 1), labels.clamp(min=0).flatten(), reduction="none")
        losses = losses.view_as(labels)
        return torch.where((labels > 0) | hardest(losses.detach(), labels, self.ratio, self.least), losses, 0).sum(1)


Loss = Annotated[Focal | HardNegatives, Field(discriminator="name")]


def focal(logits: Tensor, positive: Tensor, alpha: float, gamma: float) -> Tensor:
    """-alpha_t (1 - p_t)^gamma log p_t of every output, where p_t is the probability of what is true.

    logits : float32, any shape;  positive : bool, the same shape;  alpha, gamma : see `Focal`
    returns : float32, the same shape; finite, and so are its gradients, for all finite logits and gamma from 0
    """
    # 1 - p_t as a power of e: its own power would have an infinite slope where p_t is 1 and gamma below 1.
    true = torch.where(positive, logits, -logits)
    return torch.where(positive, alpha, 1 - alpha) * (gamma * functional.logsigmoid(-true)).exp() \
        * functional.softplus(-true)


def hardest(losses: Tensor, labels: Tensor, ratio: float, least: int) -> Tensor:
    """bool (N, A): the negatives of largest loss, of each image floor(ratio · its positives), at least `least`.

    losses : float (N, A);  labels : int64 (N, A)

    Ties go to the first anchor. An image that has fewer negatives gives all it has.
    """
    negative = labels == 0
    wanted = (ratio * (labels > 0).sum(dim=1, keepdim=True)).floor().clamp(min=least)
    order = torch.where(negative, losses, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(labels.shape[1], device=labels.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(1, order, places)
    return negative & (rank < wanted)
