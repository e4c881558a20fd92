import copy
import hashlib

import numpy as np
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.boxes.coding import decode
from lib.detectors.faster import network as faster
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster import train_rpn as rpn_training
from lib.detectors.faster.rpn import RPN, Anchors, ProposerGrid, RpnLayers
from lib.stage.errors import InputError
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk
from tests.images_on_disk import image_set

CPU = Device(torch.device("cpu"), torch.float32)
ANCHORS = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
SETTINGS = dict(
    iterations=4, optimiser=dict(name="sgd", momentum=0.9), learning_rate=0.01, clip_norm=None, weight_decay=0.0005,
    bias_multiplier=2.0, head_multiplier=1.0, schedule=dict(name="step", every=3, gamma=0.1), parts=2,
    checkpoint_every=2,
    scale={"short_side": [150], "max_side": 400}, images=2, mirror=0.5, frozen=2,
    targets={"positive": 0.7, "negative": 0.3, "anchors": 64, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0},
    precision="float32",
)


def settings(**changes):
    return rpn_training.RpnTraining(**{**SETTINGS, **changes})


def proposer(seed=0):
    torch.manual_seed(seed)
    backbone = backbones.build("resnet18")
    return backbone, faster.ProposalNetwork(backbone, RPN(256, RpnLayers(width=16, score="softmax"), ANCHORS, 16))


def test_a_batch_is_a_pure_function_and_mirrors_image_and_objects_together(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    batches = [rpn_training.RpnBatches(images, ProposerGrid(ANCHORS, 16), settings(), 3, "m1") for _ in "ab"]
    seen = set()
    for i in range(12):
        for item, again in zip(batches[0](i), batches[1](i), strict=True):
            assert item.key == again.key
            assert item.divide_by == again.divide_by
            np.testing.assert_array_equal(item.anchors.rows, again.anchors.rows)
            np.testing.assert_array_equal(item.image, again.image)
            assert item.image_id == images.ids[item.key[0]]
            seen.add(item.key)
    assert seen == {(position, mirrored) for position in range(3) for mirrored in (False, True)}
    plain, boxes = rpn_targets.view(images, images.ids[0], settings().scale, False)
    turned, moved = rpn_targets.view(images, images.ids[0], settings().scale, True)
    assert plain.shape == (150, 200, 3)
    np.testing.assert_allclose(boxes, np.float32(OBJECTS[0]) * 1.25)
    np.testing.assert_allclose(moved[:, [2, 0]], 200 - boxes[:, [0, 2]])
    for image, objects in ((plain, boxes), (turned, moved)):
        for (x1, y1, x2, y2), colour in zip(objects.astype(int), ((230, 40, 40), (40, 40, 230)), strict=True):
            inner = image[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].reshape(-1, 3).astype(int)
            assert abs(inner - colour).max() < 12


def test_positives_of_a_batch_cover_the_objects_in_the_input(tmp_path):
    images, grid = image_set(tmp_path, OBJECTS), ProposerGrid(ANCHORS, 16)
    for item in rpn_training.RpnBatches(images, grid, settings(mirror=1.0), 3, "m1")(0):
        _, objects = rpn_targets.view(images, item.image_id, settings().scale, True)
        positives = item.anchors.rows[: len(item.anchors.targets)]
        anchors = grid.of_image(item.image.shape[1], item.image.shape[0])[positives]
        moved = decode(anchors, item.anchors.targets)
        assert len(objects) == 0 or len(moved)
        for box in moved:
            assert abs(objects - box).max(axis=1).min() < 0.01


def train(folder, images, stop=None, **changes):
    folder.mkdir(exist_ok=True)
    backbone, network = proposer()
    chosen = settings(**changes)
    trunk = TrainedTrunk(network.trunk, None if chosen.frozen == "all" else chosen.frozen, CPU.torch_device, 10**6)
    batches = rpn_training.RpnBatches(images, network.rpn.anchors, chosen, 3, "m1")

    def progress(todo, done):
        for i in todo:
            if i == stop:
                raise KeyboardInterrupt
            yield i

    def losses(item):
        return rpn_training.item_losses(network, trunk, item, chosen, CPU)

    log = training.train(network, [network.rpn], batches, losses, chosen, CPU, 3, "m1", folder, progress)
    model_file.save(folder / "m.pt", backbone, images.classes, chosen.scale, rpn=network.rpn.describe())
    return log, hashlib.md5((folder / "m.pt").read_bytes()).hexdigest()


def test_training_twice_and_after_a_kill_gives_the_same_bytes_and_a_lower_loss(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    log, expected = train(tmp_path / "a", images)
    assert train(tmp_path / "b", images)[1] == expected
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", images, stop=3)
    assert train(tmp_path / "c", images)[1] == expected
    assert train(tmp_path / "d", images, learning_rate=0.02)[1] != expected
    assert log[-1]["rpn_objectness"] < log[0]["rpn_objectness"]


@pytest.mark.parametrize("frozen", [2, "all"])
def test_what_is_frozen_does_not_change_by_a_bit(tmp_path, frozen):
    images = image_set(tmp_path, OBJECTS)
    before = copy.deepcopy(proposer()[1].trunk.state_dict())
    train(tmp_path / "a", images, frozen=frozen)
    after = model_file.read(tmp_path / "a/m.pt", "rpn").backbone.trunk.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == (set() if frozen == "all" else {"2", "3"})
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name or "bn" in name)


def test_loss_goes_on_where_it_was_after_a_reload(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    train(tmp_path / "a", images)
    chosen = settings()
    values = []
    for _ in range(2):
        model = model_file.read(tmp_path / "a/m.pt", "rpn")
        network = faster.ProposalNetwork(model.backbone, faster.rpn_net.restore(model.sections["rpn"]))
        trunk = TrainedTrunk(network.trunk, 2, CPU.torch_device)
        items = rpn_training.RpnBatches(images, network.rpn.anchors, chosen, 3, "m1")(9)
        parts = [rpn_training.item_losses(network, trunk, item, chosen, CPU) for item in items]
        values.append(sum(value.item() for part in parts for value in part.losses.values()))
        model_file.save(tmp_path / "a/m.pt", model.backbone, model.classes, chosen.scale, rpn=network.rpn.describe())
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_images_without_objects_alone_train_and_have_no_box_loss(tmp_path):
    log, _ = train(tmp_path / "a", image_set(tmp_path, [[], []]))
    assert all(row["rpn_boxes"] == 0 and row["rpn_objectness"] > 0 for row in log)


def test_images_too_small_for_any_anchor_give_a_loss_of_zero(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    small = dict(scale={"short_side": [30], "max_side": 400}, weight_decay=0.0)
    log, _ = train(tmp_path / "a", images, **small)
    assert all(row["rpn_boxes"] == row["rpn_objectness"] == 0 for row in log)


def test_a_pyramid_is_refused(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    pyramid = {"short_side": [120, 150], "max_side": 400}
    with pytest.raises(InputError, match="one size"):
        rpn_training.RpnBatches(images, ProposerGrid(ANCHORS, 16), settings(scale=pyramid), 3, "m1")
