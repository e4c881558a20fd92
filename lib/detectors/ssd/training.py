"""SSD's training (Liu et al. 2016, §2.2): default boxes matched to objects, hard negatives, augmented squares."""

from typing import Any

import torch

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.scaling import Square
from lib.detectors.dense.network import Form, check_strides
from lib.detectors.dense.training import DenseTraining, dense_task
from lib.detectors.ssd.network import FC_STRIDE, DefaultBoxes, SsdHead, SsdLayers, start_fc
from lib.stage.errors import Fault, InputError
from lib.training.task import Given, Task


class SsdTraining(DenseTraining):
    """Block `ssd.train`: see `DenseTraining`. scale : a square, since the default boxes are made for its maps"""

    scale: Square


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: SsdTraining, f"{method}.boxes": DefaultBoxes, f"{method}.layers": SsdLayers}


def check(backbone: Backbone, layers: SsdLayers, boxes: DefaultBoxes, side: int, method: str) -> None:
    """Raises InputError with what does not fit together: the layers, the trunk, the boxes, the images."""
    check_strides(backbone, layers.strides, f"{method}.layers.strides")
    where, faults, cells = f"params.yaml: {method}", [], layers.cells(side)
    if layers.fc is not None and layers.strides[-1] != FC_STRIDE:
        faults.append(Fault("bad setting", f"{where}.layers.fc", f"is {layers.fc}", f"null where strides end with "
                            f"{layers.strides[-1]}, not {FC_STRIDE}", "Set it to null, or change strides"))
    if len(cells) != len(boxes.ratios):
        faults.append(Fault("bad setting", f"{where}.boxes.ratios", f"is of {len(boxes.ratios)} maps",
                            f"as many as layers gives: {len(cells)}", "Change boxes, or the extra layers"))
    if min(cells) < 1:
        faults.append(Fault("bad setting", f"{where}.layers.extra", f"leaves maps of {cells} cells of {side} pixels",
                            "at least 1 cell", "Leave out the last, or raise the side of the images"))
    if faults:
        raise InputError(faults)


def task(given: Given) -> Task:
    """SSD on M0's trunk. Reads the role `model` (M0)."""
    settings, model = given.settings, model_file.read(given.path("model"))
    boxes, layers = given.params[f"{given.method}.boxes"], given.params[f"{given.method}.layers"]
    side, backbone = settings.scale.side, model.backbone
    check(backbone, layers, boxes, side, given.method)
    grid, classes = boxes.grid(layers.cells(side), side), len(given.images.classes)
    form = Form(grid, classes, settings.loss.background, tuple(settings.variances))
    torch.manual_seed(given.seed)
    channels = [backbone.level_channels[stride] for stride in layers.strides]
    head = SsdHead(channels, layers, form, settings.loss.first_bias)
    if model.whole:
        start_fc(head, backbone)
    return dense_task(given, backbone, head, f"{given.method}.boxes")
