"""What a detector returns for an image, and which of its boxes become detections: shared by all methods.

R scored boxes of an image, C classes, K pairs of a box and a class that are kept.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings

Parts = Callable[[int], NDArray[np.float32]]
Refine = Callable[[NDArray[np.int64], NDArray[np.int64], Boxes], Boxes]


def unmoved(rows: NDArray[np.int64], labels: NDArray[np.int64], boxes: Boxes) -> Boxes:
    """The `Refine` of a detector without regressors, or whose boxes are final."""
    return boxes


class Scored(NamedTuple):
    """What a detector returns for an image.

    boxes  : float32 (R, 4) x1 y1 x2 y2 in pixels of the image, half-open: its regions, its anchors, or final boxes
    scores : float32 (R, C), minus infinity for "no score"
    refine : (rows int64 (K,), labels int64 (K,) from 0, boxes float32 (K, 4)) -> moved boxes float32 (K, 4), not
             clipped
    origin : where in the network each box comes from, int64 (R,) from 0 each: `level` of the map, or `cell` of the grid
             and `predictor` in it; empty where a box is all that there is to say
    parts  : row -> float32 (H, W), what each place of a box adds to its score; None where a score is no such sum
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    refine: Refine = unmoved
    origin: Mapping[str, NDArray[np.int64]] = MappingProxyType({})
    parts: Parts | None = None


class Selection(Settings):
    """Which scored boxes become detections.

    Boxes are clipped to the image before NMS (torchvision's rule; SSD's authors clip never). A limit per level, as
    RetinaNet's 1000 pairs of anchor and class, is the detector's to apply: scores of minus infinity are left out.

    per_image  : most boxes of a class in an image before NMS (R-CNN: 100; SSD: 400)
    per_set    : most boxes of a class in the set, times the number of images (R-CNN: 40); null for no limit
    floor      : scores must be above this; null for none (R-CNN: none; SSD: 0.01; RetinaNet: 0.05)
    nms        : IoU above which a better box of the class suppresses (R-CNN: 0.3; SSD: 0.45)
    nms_before : the same among the boxes before they are moved; null for none (SPPnet: 0.3)
    most       : most boxes of an image over all classes, the best after NMS; ties go to the first class, in it to the
                 first box; null for no limit (R-CNN: none; py-faster-rcnn: 100; SSD: 200; RetinaNet: 100)
    """

    per_image: int = Field(ge=1)
    per_set: int | None = Field(ge=1)
    floor: float | None
    nms: float = Field(ge=0, le=1)
    nms_before: float | None = Field(ge=0, le=1)
    most: int | None = Field(ge=1)

    @property
    def margins(self) -> bool:
        """Whether the scores are signed distances from the planes of SVMs: where a block that has the choice `scores`
        says svm, and in HOG's. Else they are probabilities."""
        return getattr(self, "scores", "") == "svm"


def check_scores(scores: NDArray[np.floating], where: str = "scores") -> None:
    """Raises InputError where a number is NaN or plus infinity: whatever compares scores would drop it without a word.

    scores : float, any shape;  where : what a message calls them
    """
    usable = scores < np.inf
    if not usable.all():
        broken = scores[~usable]
        raise InputError([Fault(
            "non-finite score", where, f"{len(broken)} of {scores.size} are {broken[0]}", "finite numbers",
            "The network diverged: train it again with a lower learning rate; in half precision first try precision: "
            "float32",
        )])
