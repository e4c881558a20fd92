import copy

import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import to_input
from lib.detectors.fast.network import DetectionHead
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster import train_joint as joint_training
from lib.detectors.faster.rpn import RPN, Anchors, ProposerGrid, RpnLayers
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk
from tests.images_on_disk import image_set

CPU = Device(torch.device("cpu"), torch.float32)
ANCHORS = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
SETTINGS = joint_training.JointTraining(
    iterations=4, optimiser=dict(name="sgd", momentum=0.9), learning_rate=0.01, clip_norm=None, weight_decay=0.0005,
    bias_multiplier=2.0, head_multiplier=1.0, schedule=dict(name="step", every=3, gamma=0.1), parts=2,
    checkpoint_every=2, scale={"short_side": [150], "max_side": 400}, images=2, mirror=0.5, frozen=3,
    targets={"positive": 0.7, "negative": 0.3, "anchors": 64, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0}, precision="float32",
    regions=32, foreground_share=0.25, foreground=0.5, background=[0.0, 0.5],
    proposing={"pre_nms": 200, "post_nms": 50, "nms": 0.7, "min_size": 8.0}, pooling="max", fc=16,
    fc_init="gaussian", dropout=0.0, box_loss="smooth_l1",
    beta=1.0, box_weight=1.0,
)


def joint_network(seed=0):
    torch.manual_seed(seed)
    backbone = backbones.build("efficientnet_lite0")
    head = DetectionHead(*region_layers(backbone, 16, 0.0), 2)
    return joint_training.JointNetwork(backbone, RPN(112, RpnLayers(width=16, score="softmax"), ANCHORS, 16), head)


def test_joint_losses_are_those_of_both_networks_and_a_batch_is_the_mean_of_its_images(tmp_path):
    images, settings = image_set(tmp_path, OBJECTS), SETTINGS
    network = joint_network().train()
    trunk = TrainedTrunk(network.detector.trunk, 3, CPU.torch_device)
    items = joint_training.JointBatches(images, network.rpn.anchors, settings, 3, "joint")(0)
    parts = [joint_training.item_losses(network, trunk, item, settings, CPU).losses for item in items]
    for item, losses in zip(items, parts, strict=True):
        assert set(losses) == {"rpn_objectness", "rpn_boxes", "classification", "boxes"}
        image = to_input(item.image, network.detector.recipe, CPU)
        with torch.no_grad():
            logits, deltas = network.rpn(network.detector.trunk(image))
        divide_by = rpn_targets.Divisors(len(item.anchors.rows), len(item.anchors.rows))
        alone = rpn_targets.losses(logits, deltas, item.anchors, divide_by, settings.loss, CPU)
        assert losses["rpn_objectness"].item() == pytest.approx(alone["rpn_objectness"].item() / 2, rel=1e-3)
        assert losses["rpn_boxes"].item() == pytest.approx(alone["rpn_boxes"].item() / 2, rel=1e-3, abs=1e-7)
        assert losses["classification"].item() == pytest.approx(np.log(3) / 2, rel=0.1)
        assert (losses["boxes"].item() == 0) == (len(item.objects) == 0)


def test_joint_regions_follow_the_rules_and_depend_on_the_item_alone(tmp_path):
    images, settings = image_set(tmp_path, OBJECTS), SETTINGS
    items = joint_training.JointBatches(images, ProposerGrid(ANCHORS, 16), settings, 3, "joint")(0)
    item = next(item for item in items if len(item.objects))
    size = item.image.shape[1], item.image.shape[0]
    proposals = np.concatenate([item.objects + shift for shift in range(-60, 60, 3)]).astype(np.float32)
    regions = joint_training.regions_of(item, proposals, size, settings)
    again = joint_training.regions_of(item, proposals, size, settings)
    np.testing.assert_array_equal(regions.boxes, again.boxes)
    assert len(regions) == 32
    assert (regions.label > 0).sum() == 8
    assert (regions.overlap[regions.label > 0] >= 0.5).all()
    assert (regions.overlap[regions.label == 0] < 0.5).all()
    nothing = joint_training.regions_of(item, np.zeros((0, 4), np.float32), size, settings)
    np.testing.assert_array_equal(np.sort(nothing.boxes, axis=0), np.sort(item.objects, axis=0))


def test_joint_training_reaches_every_weight_but_the_frozen_and_is_the_same_again(tmp_path):
    images, settings = image_set(tmp_path, OBJECTS), SETTINGS.model_copy(update={"iterations": 2})
    results = []
    for name in "ab":
        (tmp_path / name).mkdir()
        network = joint_network()
        before = copy.deepcopy(network.state_dict())
        trunk = TrainedTrunk(network.detector.trunk, 3, CPU.torch_device)
        batches = joint_training.JointBatches(images, network.rpn.anchors, settings, 3, "joint")

        def losses(item, network=network, trunk=trunk):
            return joint_training.item_losses(network, trunk, item, settings, CPU)

        def progress(todo, done):
            return iter(todo)

        training.train(
            network, [network.rpn], batches, losses, settings, CPU, 3, "joint", tmp_path / name, progress
        )
        after = network.state_dict()
        unchanged = {key for key in before if torch.equal(before[key], after[key])}
        results.append(after)
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trained.isdisjoint(unchanged)
    frozen = ("detector.trunk.0", "detector.trunk.1", "detector.trunk.2")
    assert all(key in unchanged for key in before if key.startswith(frozen))
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
