"""RetinaNet's training (Lin et al. 2017, §4.1): every anchor of whole images, focal loss."""

from typing import Any

import torch

from lib.backbones import model_file
from lib.detectors.dense.network import Form, check_strides
from lib.detectors.dense.training import DenseTraining, dense_task
from lib.detectors.retinanet.network import PyramidAnchors, PyramidLayers, RetinaHead, doubling
from lib.stage.errors import Fault, InputError
from lib.training.task import Given, Task


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: DenseTraining, f"{method}.anchors": PyramidAnchors, f"{method}.layers": PyramidLayers}


def task(given: Given) -> Task:
    """RetinaNet on M0's trunk. Reads the role `model` (M0)."""
    settings, model = given.settings, model_file.read(given.path("model"))
    anchors, layers = given.params[f"{given.method}.anchors"], given.params[f"{given.method}.layers"]
    where = f"{given.method}.layers.strides"
    check_strides(model.backbone, layers.of_trunk, where)
    if not doubling(layers.strides):
        raise InputError([Fault("bad setting", f"params.yaml: {where}", f"is {layers.strides}",
                                "strides that double from one to the next", "Change it")])
    classes = len(given.images.classes)
    form = Form(anchors.grid(layers.strides), classes, settings.loss.background, tuple(settings.variances))
    torch.manual_seed(given.seed)
    channels = [model.backbone.level_channels[stride] for stride in layers.of_trunk]
    head = RetinaHead(channels, layers, form, settings.loss.first_bias)
    return dense_task(given, model.backbone, head, f"{given.method}.anchors")
