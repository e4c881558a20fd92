"""Faster R-CNN's models of the four steps with random weights, and an image."""

import numpy as np
import torch
from torch import nn

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.detectors.faster.rpn import RPN, Anchors, Proposing, RpnLayers

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]
SCALE = Scale(short_side=[150], max_side=400)
REGIONS = Proposing(pre_nms=500, post_nms=40, nms=0.7, min_size=8.0)
IMAGE = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def parts(seed):
    torch.manual_seed(seed)
    backbone = backbones.build("efficientnet_lite0")
    anchors = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
    rpn = RPN(backbone.channels, RpnLayers(width=16, score="softmax"), anchors, 16)
    head = DetectionHead(*region_layers(backbone, 16, 0.0), len(CLASSES))
    for module in (rpn.scores, rpn.deltas, head.score, head.box):
        nn.init.normal_(module.weight, std=0.1)
    head.set_statistics(torch.full((4, 4), 0.01), torch.full((4, 4), 0.1))
    return backbone, rpn, head


def write(folder):
    """`m1.pt` to `m4.pt`: M2's trunk in M3 and M4, M3's proposer in M4."""
    first, second = parts(0), parts(1)
    third = (second[0], parts(2)[1], parts(3)[2])
    heads = [fast.describe_head(head, 16, 0.0) for head in (second[2], third[2])]
    model_file.save(folder / "m1.pt", first[0], CLASSES, SCALE, rpn=first[1].describe())
    model_file.save(folder / "m2.pt", second[0], CLASSES, SCALE, head=heads[0])
    model_file.save(folder / "m3.pt", second[0], CLASSES, SCALE, rpn=third[1].describe())
    m3 = model_file.read(folder / "m3.pt", "rpn")
    model_file.save(folder / "m4.pt", m3.backbone, CLASSES, SCALE, **m3.sections, head=heads[1])
