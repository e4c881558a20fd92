"""Every trained parameter is in the graph of every part of a batch: a loss without examples is 0, but depends on them.

The loop takes all gradients of each part; a missing one ends the training.
"""

import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale
from lib.detectors.fast import training as fast_training
from lib.detectors.fast.network import DetectionHead, FastNetwork
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster import train_joint, train_rpn
from lib.detectors.faster.network import ProposalNetwork
from lib.detectors.faster.rpn import RPN, Anchors, Proposing, RpnLayers
from lib.training.trunk import TrainedTrunk

CPU = Device(torch.device("cpu"), torch.float32)
ANCHORS = Anchors(scales=[32.0], ratios=[0.5, 1.0], base=16.0, centre=8.0)
NONE, SIZE = np.zeros((0, 4), np.float32), (96, 80)
IMAGE = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
OPTIMISATION = dict(
    iterations=1, optimiser=dict(name="sgd", momentum=0.9), learning_rate=0.01, clip_norm=None, weight_decay=0.0005,
    bias_multiplier=2.0, head_multiplier=1.0, schedule=dict(name="step", every=3, gamma=0.1), parts=2,
    checkpoint_every=2,
)
RPN_SETTINGS = dict(
    **OPTIMISATION,
    scale=Scale(short_side=[80], max_side=400),
    images=1,
    mirror=0.0,
    frozen=1,
    precision="float32",
    targets={"positive": 0.7, "negative": 0.3, "anchors": 32, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0},
)
REGIONS = dict(
    regions=16,
    foreground_share=0.25,
    foreground=0.5,
    background=[0.0, 0.5],
    pooling="max",
    fc=8,
    fc_init="gaussian",
    dropout=0.0,
    beta=1.0,
    box_weight=1.0,
)
FAST_SETTINGS = dict(
    **OPTIMISATION,
    **REGIONS,
    scale=Scale(short_side=[80], max_side=400),
    images=1,
    mirror=0.0,
    frozen=1,
    head="fresh",
    stage_wise=False,
    statistics="fixed",
    std_floor=0.01,
    precision="float32",
)
TRUNKS = ("efficientnet_lite0", "resnet18")


def gradients(network, losses):
    """Gradients of all trained parameters, as the training loop asks for them; and the total."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    total = torch.stack(list(losses.values())).sum()
    grads = torch.autograd.grad(total, trained)
    assert trained
    assert all(torch.isfinite(grad).all() for grad in grads)
    return total.item(), grads


def parts_of(name):
    torch.manual_seed(0)
    backbone = backbones.build(name)
    rpn = RPN(backbone.channels, RpnLayers(width=8, score="softmax"), ANCHORS, 16)
    return backbone, rpn, DetectionHead(*region_layers(backbone, 8, 0.0), 2)


def sample_anchors(rpn, size, objects, settings):
    """The proposer's anchors of an image of this size."""
    random = np.random.default_rng(0)
    return rpn_targets.sample(rpn.anchors.of_image(*size), size, objects, ANCHORS.count, settings.targets, random)


@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize("case", ["no objects", "no anchor inside"])
def test_rpn(name, case):
    backbone, rpn, _ = parts_of(name)
    settings, network = train_rpn.RpnTraining(**RPN_SETTINGS), ProposalNetwork(backbone, rpn).train()
    size = SIZE if case == "no objects" else (20, 20)
    anchors = sample_anchors(rpn, size, NONE, settings)
    divide_by = rpn_targets.divisors([anchors], settings.loss, settings.targets)
    item = train_rpn.RpnExample(IMAGE[: size[1], : size[0]], (0, False), "a", anchors, divide_by)
    part = train_rpn.item_losses(network, TrainedTrunk(network.trunk, 1, CPU.torch_device), item, settings, CPU)
    total, grads = gradients(network, part.losses)
    assert part.losses["rpn_boxes"].item() == 0
    if case == "no anchor inside":
        assert total == 0
        assert not any(grad.any() for grad in grads)


@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize("box_loss", ["smooth_l1", "l2", "none"])
@pytest.mark.parametrize("boxes_only", [False, True])
@pytest.mark.parametrize("regions", [0, 3])
def test_fast_without_foreground_and_without_regions(name, box_loss, boxes_only, regions):
    if boxes_only and box_loss == "none":
        pytest.skip("phases() refuses it")
    backbone, _, head = parts_of(name)
    settings = fast_training.FastTraining(**FAST_SETTINGS, box_loss=box_loss)
    network = FastNetwork(backbone, head).train()
    fast_training.freeze(network, settings, boxes_only)
    rois = np.float32([[0, 0, 0, 40, 40]] * regions).reshape(-1, 5)
    label, target = np.zeros(regions, np.int64), np.zeros((regions, 4), np.float32)
    item = fast_training.FastExample(IMAGE, rois, label, target, 16, ("a", False, 0))
    trunk = TrainedTrunk(network.trunk, None if boxes_only else 1, CPU.torch_device)
    part = fast_training.item_losses(network, trunk, item, settings, CPU)
    total, _ = gradients(network, part.losses)
    assert (total == 0) == (regions == 0)


@pytest.mark.parametrize("name", TRUNKS)
@pytest.mark.parametrize("box_loss", ["smooth_l1", "none"])
@pytest.mark.parametrize("case", ["no objects", "no proposals", "neither, no anchor inside"])
def test_joint(name, box_loss, case):
    backbone, rpn, head = parts_of(name)
    min_size = 0.0 if case == "no objects" else 1000.0
    proposing = Proposing(pre_nms=None, post_nms=20, nms=0.7, min_size=min_size)
    settings = train_joint.JointTraining(**RPN_SETTINGS, **REGIONS, box_loss=box_loss, proposing=proposing)
    network = train_joint.JointNetwork(backbone, rpn, head).train()
    size = (20, 20) if "neither" in case else SIZE
    objects = np.float32([[10, 10, 50, 60]]) if case == "no proposals" else NONE
    labels = np.zeros(len(objects), np.int64)
    anchors = sample_anchors(rpn, size, objects, settings)
    item = train_joint.JointExample(IMAGE[: size[1], : size[0]], (0, False), "a", 1.0, objects, labels, anchors, 3)
    trunk = TrainedTrunk(network.detector.trunk, 1, CPU.torch_device)
    part = train_joint.item_losses(network, trunk, item, settings, CPU)
    total, _ = gradients(network, part.losses)
    assert (total == 0) == ("neither" in case)
