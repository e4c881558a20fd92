"""YOLO's loss (Redmon et al. 2016, §2.2, equation 3; Darknet's detection_layer.c): five sums of squared errors.

N images, S cells along a side, B boxes of a cell, C classes, P objects, each with a cell of its own.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from lib.detectors.yolo.network import Cells
from lib.stage.params import Settings


class YoloLoss(Settings):
    """What equation 3 leaves open.

    coordinates : λ of centres and of sides (paper: 5)
    no_object   : λ of the confidences of boxes that answer for no object (paper: 0.5)
    confidence  : what that of the box that answers for an object is to be: iou, its IoU with it, or one (paper: iou)
    """

    coordinates: float = Field(ge=0)
    no_object: float = Field(ge=0)
    confidence: Literal["iou", "one"]

    def __call__(self, outputs: Cells, rows: Tensor, labels: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        """The five sums over all images, each as half of equation 3's, whose gradient is the error itself (Darknet).

        rows   : int64 (P,) the objects' cells, among the N·S²;  labels : int64 (P,) from 0
        boxes  : float32 (P, 4), see `targets.CellObjects`
        returns: name -> float32 scalar; all five, 0 where there is nothing to sum
        """
        side = round(outputs.classes.shape[1] ** 0.5)
        confidences, of_cells = outputs.confidences.flatten(0, 1), outputs.boxes.flatten(0, 1)[rows]
        answering, overlap = responsible(of_cells.detach(), boxes, side)
        predicted = of_cells[torch.arange(len(rows), device=rows.device), answering]
        classes = outputs.classes.flatten(0, 1)[rows]
        objects = (labels[:, None] == torch.arange(classes.shape[1], device=labels.device)).to(classes.dtype)
        wanted = overlap if self.confidence == "iou" else torch.ones_like(overlap)
        empty = torch.ones_like(confidences).index_put((rows, answering), confidences.new_zeros(len(rows)))
        sums = {
            "centres": self.coordinates * (predicted[:, :2] - boxes[:, :2]).square().sum(),
            "sides": self.coordinates * (predicted[:, 2:] - boxes[:, 2:].sqrt()).square().sum(),
            "confidence": (confidences[rows, answering] - wanted).square().sum(),
            "no_object": self.no_object * (confidences.square() * empty).sum(),
            "classification": (classes - objects).square().sum(),
        }
        return {name: value / 2 for name, value in sums.items()}


def responsible(predicted: Tensor, boxes: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Which box of a cell answers for its object, int64 (P,), and its IoU with it, float32 (P,).

    predicted : float32 (P, B, 4), see `Cells`;  boxes : float32 (P, 4), see `targets.CellObjects`;  cells : S

    The one of largest IoU; where none overlaps, the nearest in centre and sides. Ties go to the first.
    """
    # Both in sides of the image; the corner of the cell is the same for both.
    ours = torch.cat([predicted[..., :2] / cells, predicted[..., 2:].square()], dim=-1)
    theirs = torch.cat([boxes[:, :2] / cells, boxes[:, 2:]], dim=-1)[:, None]
    overlaps = centred_iou(ours, theirs)
    distance = (ours - theirs).square().sum(dim=-1)
    best, overlap = overlaps.argmax(dim=1), overlaps.amax(dim=1)
    answering = torch.where(overlap > 0, best, distance.argmin(dim=1))
    return answering, overlap


def centred_iou(first: Tensor, second: Tensor) -> Tensor:
    """float32 (...,): IoU of boxes given by centre, width and height, in one unit; 0 where both are without area.

    first, second : float32 (..., 4), of shapes that broadcast
    """
    lower = torch.maximum(first[..., :2] - first[..., 2:] / 2, second[..., :2] - second[..., 2:] / 2)
    upper = torch.minimum(first[..., :2] + first[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2)
    shared = (upper - lower).clamp(min=0).prod(dim=-1)
    union = first[..., 2:].prod(dim=-1) + second[..., 2:].prod(dim=-1) - shared
    return shared / union.clamp(min=torch.finfo(union.dtype).tiny)
