import copy
import hashlib

import numpy as np
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.detectors.fast.network import DetectionHead
from lib.detectors.faster import network as faster
from lib.detectors.faster import targets as rpn_targets
from lib.detectors.faster import train_joint as joint_training
from lib.detectors.faster import train_rpn as faster_training
from lib.detectors.faster.rpn import RPN, Anchors, ProposerGrid, RpnLayers
from lib.stage.errors import InputError
from lib.training import loop as training
from lib.training.trunk import TrainedTrunk
from tests.images_on_disk import image_set

CPU = Device(torch.device("cpu"), torch.float32)
ANCHORS = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
OBJECTS = [[(10, 10, 60, 60), (80, 30, 140, 100)], [], [(50, 20, 110, 90)]]
OPTIMISATION = dict(
    iterations=4,
    optimiser=dict(name="sgd", momentum=0.9),
    learning_rate=0.01,
    weight_decay=0.0005,
    bias_multiplier=2.0,
    head_multiplier=1.0,
    schedule=dict(name="step", every=3, gamma=0.1),
    parts=2,
    checkpoint_every=2,
)
SETTINGS = dict(
    **OPTIMISATION,
    scale={"short_side": [150], "max_side": 400},
    images=2,
    mirror=0.5,
    frozen=2,
    targets={"positive": 0.7, "negative": 0.3, "anchors": 64, "positive_share": 0.5},
    loss={"normaliser": "sampled", "box_weight": 1.0, "sigma": 3.0},
    precision="float32",
)
JOINT = dict(
    **{**SETTINGS, "frozen": 3},
    regions=32,
    foreground_share=0.25,
    foreground=0.5,
    background=[0.0, 0.5],
    proposing={"pre_nms": 200, "post_nms": 50, "nms": 0.7, "min_size": 8.0},
    fc=16,
    dropout=0.0,
    box_loss="smooth_l1",
    beta=1.0,
    box_weight=1.0,
)


def settings(**changes):
    return faster_training.RpnTraining(**{**SETTINGS, **changes})


def proposer(seed=0):
    torch.manual_seed(seed)
    backbone = backbones.build("resnet18")
    return backbone, faster.ProposalNetwork(backbone, RPN(256, RpnLayers(width=16, score="softmax"), ANCHORS, 16))


def test_a_batch_is_a_pure_function_and_mirrors_image_and_objects_together(tmp_path):
    pictures = image_set(tmp_path, OBJECTS)
    batches = [faster_training.RpnBatches(pictures, ProposerGrid(ANCHORS, 16), settings(), 3, "m1") for _ in "ab"]
    seen = set()
    for i in range(12):
        for one, other in zip(batches[0](i), batches[1](i), strict=True):
            assert one.key == other.key
            assert one.by == other.by
            np.testing.assert_array_equal(one.drawn.rows, other.drawn.rows)
            np.testing.assert_array_equal(one.image, other.image)
            assert one.image_id == pictures.ids[one.key[0]]
            seen.add(one.key)
    assert seen == {(position, mirrored) for position in range(3) for mirrored in (False, True)}
    plain, boxes = rpn_targets.view(pictures, pictures.ids[0], settings().scale, False)
    turned, moved = rpn_targets.view(pictures, pictures.ids[0], settings().scale, True)
    assert plain.shape == (150, 200, 3)
    np.testing.assert_allclose(boxes, np.float32(OBJECTS[0]) * 1.25)
    np.testing.assert_allclose(moved[:, [2, 0]], 200 - boxes[:, [0, 2]])
    for image, found in ((plain, boxes), (turned, moved)):
        for (x1, y1, x2, y2), colour in zip(found.astype(int), ((230, 40, 40), (40, 40, 230)), strict=True):
            inner = image[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].reshape(-1, 3).astype(int)
            assert abs(inner - colour).max() < 12


def test_positives_of_a_batch_cover_the_objects_in_the_picture_shown(tmp_path):
    pictures, maps = image_set(tmp_path, OBJECTS), ProposerGrid(ANCHORS, 16)
    for item in faster_training.RpnBatches(pictures, maps, settings(mirror=1.0), 3, "m1")(0):
        _, objects = rpn_targets.view(pictures, item.image_id, settings().scale, True)
        anchors = maps.of_image(item.image.shape[1], item.image.shape[0])[item.drawn.rows[: len(item.drawn.targets)]]
        moved = faster_training_decode(anchors, item.drawn.targets)
        assert len(objects) == 0 or len(moved)
        for box in moved:
            assert abs(objects - box).max(axis=1).min() < 0.01


def faster_training_decode(anchors, targets):
    from lib.boxes.coding import decode

    return decode(anchors, targets)


def train(folder, pictures, stop=None, **changes):
    folder.mkdir(exist_ok=True)
    backbone, network = proposer()
    chosen = settings(**changes)
    trunk = TrainedTrunk(network.trunk, None if chosen.frozen == "all" else chosen.frozen, CPU.torch_device, 10**6)
    batches = faster_training.RpnBatches(pictures, network.rpn.anchors, chosen, 3, "m1")

    def progress(todo, done):
        for i in todo:
            if i == stop:
                raise KeyboardInterrupt
            yield i

    def losses(item):
        return faster_training.item_losses(network, trunk, item, chosen, CPU)

    log = training.train(network, [network.rpn], batches, losses, chosen, CPU, 3, "m1", folder, progress)
    model_file.save(folder / "m.pt", backbone, pictures.classes, chosen.scale, rpn=network.rpn.describe())
    return log, hashlib.md5((folder / "m.pt").read_bytes()).hexdigest()


def test_training_twice_and_after_a_kill_gives_the_same_bytes_and_a_lower_loss(tmp_path):
    pictures = image_set(tmp_path, OBJECTS)
    log, expected = train(tmp_path / "a", pictures)
    assert train(tmp_path / "b", pictures)[1] == expected
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", pictures, stop=3)
    assert train(tmp_path / "c", pictures)[1] == expected
    assert train(tmp_path / "d", pictures, learning_rate=0.02)[1] != expected
    assert log[-1]["rpn_objectness"] < log[0]["rpn_objectness"]


@pytest.mark.parametrize("frozen", [2, "all"])
def test_what_is_frozen_does_not_change_by_a_bit(tmp_path, frozen):
    pictures = image_set(tmp_path, OBJECTS)
    before = copy.deepcopy(proposer()[1].trunk.state_dict())
    train(tmp_path / "a", pictures, frozen=frozen)
    after = model_file.read(tmp_path / "a/m.pt", "rpn").backbone.trunk.state_dict()
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == (set() if frozen == "all" else {"2", "3"})
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name or "bn" in name)


def test_loss_goes_on_where_it_was_after_a_reload(tmp_path):
    pictures = image_set(tmp_path, OBJECTS)
    train(tmp_path / "a", pictures)
    chosen = settings()
    values = []
    for _ in range(2):
        model = model_file.read(tmp_path / "a/m.pt", "rpn")
        network = faster.ProposalNetwork(model.backbone, faster.rpn_net.restore(model.sections["rpn"]))
        trunk = TrainedTrunk(network.trunk, 2, CPU.torch_device)
        items = faster_training.RpnBatches(pictures, network.rpn.anchors, chosen, 3, "m1")(9)
        parts = [faster_training.item_losses(network, trunk, item, chosen, CPU) for item in items]
        values.append(sum(value.item() for part in parts for value in part.losses.values()))
        model_file.save(tmp_path / "a/m.pt", model.backbone, model.classes, chosen.scale, rpn=network.rpn.describe())
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_images_without_objects_alone_train_and_have_no_box_loss(tmp_path):
    log, _ = train(tmp_path / "a", image_set(tmp_path, [[], []]))
    assert all(row["rpn_boxes"] == 0 and row["rpn_objectness"] > 0 for row in log)


def test_images_too_small_for_any_anchor_give_a_loss_of_zero_and_are_reported(tmp_path):
    pictures = image_set(tmp_path, OBJECTS)
    small = dict(scale={"short_side": [30], "max_side": 400}, weight_decay=0.0)
    fit = faster_training.anchor_fit(pictures, ProposerGrid(ANCHORS, 16), settings(**small))
    assert fit.unused == pictures.ids
    assert sum("scale" in one and "untrained" in one for one in fit.cautions) == 2
    assert [row["untouched"] for row in fit.classes] == [1, 1]
    log, _ = train(tmp_path / "a", pictures, **small)
    assert all(row["rpn_boxes"] == row["rpn_objectness"] == 0 for row in log)


def test_anchor_fit_by_hand(tmp_path):
    # Short side 120 is the picture as it is. Anchor of ratio 1 and scale 64 at cell (3, 3): 24..88 both ways.
    pictures = image_set(tmp_path, [[(24, 24, 88, 88), (24, 24, 88, 56)]])
    fit = faster_training.anchor_fit(
        pictures, ProposerGrid(ANCHORS, 16), settings(scale={"short_side": [120], "max_side": 400})
    )
    cat, dog = fit.classes
    assert (cat["class"], cat["objects"], cat["best_iou"], cat["reached"], cat["untouched"]) == (
        "cat",
        1,
        1.0,
        1.0,
        0.0,
    )
    assert 0.5 < dog["best_iou"] < 0.7
    assert dog["reached"] == 0
    assert (fit.unused, fit.cautions) == ([], [])


def test_a_pyramid_is_refused(tmp_path):
    pictures = image_set(tmp_path, OBJECTS)
    with pytest.raises(InputError, match="one size"):
        faster_training.RpnBatches(
            pictures, ProposerGrid(ANCHORS, 16), settings(scale={"short_side": [120, 150], "max_side": 400}), 3, "m1"
        )


def joint_network(seed=0):
    torch.manual_seed(seed)
    backbone = backbones.build("efficientnet_lite0")
    head = DetectionHead(*region_layers(backbone, 16, 0.0), 2)
    return joint_training.JointNetwork(backbone, RPN(112, RpnLayers(width=16, score="softmax"), ANCHORS, 16), head)


def test_joint_losses_are_those_of_both_networks_and_a_batch_is_the_mean_of_its_images(tmp_path):
    pictures, chosen = image_set(tmp_path, OBJECTS), joint_training.JointTraining(**JOINT)
    network = joint_network().train()
    trunk = TrainedTrunk(network.detector.trunk, 3, CPU.torch_device)
    items = joint_training.JointBatches(pictures, network.rpn.anchors, chosen, 3, "joint")(0)
    parts = [joint_training.item_losses(network, trunk, item, chosen, CPU).losses for item in items]
    for item, found in zip(items, parts, strict=True):
        assert set(found) == {"rpn_objectness", "rpn_boxes", "classification", "boxes"}
        image = faster.to_input(item.image, network.detector.recipe, CPU)
        with torch.no_grad():
            logits, deltas = network.rpn(network.detector.trunk(image))
        by = rpn_targets.Divisors(len(item.drawn.rows), len(item.drawn.rows))
        alone = rpn_targets.losses(logits, deltas, item.drawn, by, chosen.loss)
        assert found["rpn_objectness"].item() == pytest.approx(alone["rpn_objectness"].item() / 2, rel=1e-3)
        assert found["rpn_boxes"].item() == pytest.approx(alone["rpn_boxes"].item() / 2, rel=1e-3, abs=1e-7)
        assert found["classification"].item() == pytest.approx(np.log(3) / 2, rel=0.1)
        assert (found["boxes"].item() == 0) == (len(item.objects) == 0)


def test_joint_regions_follow_the_rules_and_depend_on_the_item_alone(tmp_path):
    pictures, chosen = image_set(tmp_path, OBJECTS), joint_training.JointTraining(**JOINT)
    items = joint_training.JointBatches(pictures, ProposerGrid(ANCHORS, 16), chosen, 3, "joint")(0)
    item = next(one for one in items if len(one.objects))
    size = item.image.shape[1], item.image.shape[0]
    proposals = np.concatenate([item.objects + shift for shift in range(-60, 60, 3)]).astype(np.float32)
    regions = joint_training.regions_of(item, proposals, size, chosen)
    again = joint_training.regions_of(item, proposals, size, chosen)
    np.testing.assert_array_equal(regions.boxes, again.boxes)
    assert len(regions) == 32
    assert (regions.label > 0).sum() == 8
    assert (regions.overlap[regions.label > 0] >= 0.5).all()
    assert (regions.overlap[regions.label == 0] < 0.5).all()
    nothing = joint_training.regions_of(item, np.zeros((0, 4), np.float32), size, chosen)
    np.testing.assert_array_equal(np.sort(nothing.boxes, axis=0), np.sort(item.objects, axis=0))


def test_joint_training_reaches_every_weight_but_the_frozen_and_is_the_same_again(tmp_path):
    pictures, chosen = image_set(tmp_path, OBJECTS), joint_training.JointTraining(**{**JOINT, "iterations": 2})
    results = []
    for name in "ab":
        (tmp_path / name).mkdir()
        network = joint_network()
        before = copy.deepcopy(network.state_dict())
        trunk = TrainedTrunk(network.detector.trunk, 3, CPU.torch_device)
        batches = joint_training.JointBatches(pictures, network.rpn.anchors, chosen, 3, "joint")

        def losses(item, network=network, trunk=trunk):
            return joint_training.item_losses(network, trunk, item, chosen, CPU)

        training.train(
            network,
            [network.rpn],
            batches,
            losses,
            chosen,
            CPU,
            3,
            "joint",
            tmp_path / name,
            lambda todo, done: iter(todo),
        )
        after = network.state_dict()
        still = {key for key in before if torch.equal(before[key], after[key])}
        results.append(after)
    trained = {name for name, value in network.named_parameters() if value.requires_grad}
    assert trained.isdisjoint(still)
    assert all(
        key in still for key in before if key.startswith(("detector.trunk.0", "detector.trunk.1", "detector.trunk.2"))
    )
    assert all(torch.equal(results[0][key], results[1][key]) for key in results[0])
