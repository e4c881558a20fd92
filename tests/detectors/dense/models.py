"""Small one-stage networks on a random resnet18, and their settings."""

import torch

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.device import Device
from lib.detectors.dense.network import DenseHead, Form
from lib.detectors.dense.training import DenseTraining
from lib.detectors.retinanet.network import PyramidAnchors, PyramidLayers, RetinaHead
from lib.detectors.ssd.network import DefaultBoxes, SsdHead, SsdLayers
from lib.detectors.ssd.training import SsdTraining

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog"]
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
BOXES = DefaultBoxes(sides=[16.0, 32.0, 56.0, 80.0, 100.0], ratios=[[2.0], [2.0, 3.0], [2.0], [2.0]], steps=None)
LAYERS = SsdLayers(
    strides=[8, 16, 32], l2_scale=[20.0, None, 10.0], fc=None, extra=[{"reduce": 8, "width": 16, "stride": 2}],
)
ANCHORS = PyramidAnchors(side=2.0, octaves=3, ratios=[0.5, 1.0, 2.0], centre=0.5)
PYRAMID = PyramidLayers(strides=[8, 16, 32, 64], width=16, depth=1, groups=8)
PLAIN = dict(photometric=False, expand=1.0, crops=[], interpolation=False, mirror=0.0)
COMMON = dict(
    iterations=4, optimiser=dict(name="sgd", momentum=0.9), learning_rate=0.001, clip_norm=None, weight_decay=0.0005,
    bias_multiplier=2.0, head_multiplier=1.0, schedule=dict(name="step", every=3, gamma=0.1), parts=2,
    checkpoint_every=2, images=3, frozen=0, augment=PLAIN, normaliser="batch", box_weight=1.0, precision="float32",
)
SSD = dict(
    **COMMON, scale={"side": 96}, matching=dict(positive=0.5, negative=0.5, best="one"),
    loss=dict(name="hard_negatives", ratio=3.0, least=0), beta=1.0, variances=[0.1, 0.2],
)
RETINANET = dict(
    **COMMON, scale={"short_side": [96], "max_side": 200}, matching=dict(positive=0.5, negative=0.4, best="ties"),
    loss=dict(name="focal", alpha=0.25, gamma=2.0, prior=0.01), beta=0.11, variances=[1.0, 1.0],
)
METHODS = ("ssd", "retinanet")


def settings(method: str, **changes) -> DenseTraining:
    return SsdTraining(**{**SSD, **changes}) if method == "ssd" else DenseTraining(**{**RETINANET, **changes})


def network_parts(method: str, block: DenseTraining, backbone: str = "resnet18", seed: int = 0):
    """A centred backbone of random weights, and the method's head on it."""
    torch.manual_seed(seed)
    trunk, loss, variances = centre(backbones.build(backbone)), block.loss, tuple(block.variances)
    head: DenseHead
    if method == "ssd":
        form = Form(BOXES.grid(LAYERS.cells(block.scale.side), block.scale.side), 2, loss.background, variances)
        head = SsdHead([trunk.level_channels[stride] for stride in LAYERS.strides], LAYERS, form, loss.first_bias)
    else:
        form = Form(ANCHORS.grid(PYRAMID.strides), 2, loss.background, variances)
        channels = [trunk.level_channels[stride] for stride in PYRAMID.of_trunk]
        head = RetinaHead(channels, PYRAMID, form, loss.first_bias)
    return trunk, head
