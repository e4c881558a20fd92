import copy
import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones.frozen import norms
from lib.boxes.assign import IGNORED
from lib.boxes.boxes import iou
from lib.boxes.coding import decode
from lib.detectors.dense import augment
from lib.detectors.dense import training as dense
from lib.detectors.dense.augment import Example
from lib.detectors.dense.network import DenseNetwork, contents
from lib.stage.errors import InputError
from lib.storage import checkpoint
from lib.training import loop
from tests.detectors.dense.models import CPU, METHODS, OBJECTS, SSD, network_parts, settings
from tests.images_on_disk import image_set

AUGMENTED = dict(photometric=True, expand=2.0, crops=[0.1, 0.5, 0.0], interpolation=True, mirror=0.5)


def batches(images, method, head, block, stage="stage"):
    return dense.DenseBatches(images, head, (127.0,) * 3, block, 3, stage)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_a_pure_function_of_seed_stage_and_iteration(tmp_path, method):
    images, block = image_set(tmp_path, OBJECTS), settings(method, augment=AUGMENTED)
    _, head = network_parts(method, block)
    forward, backward = batches(images, method, head, block), batches(images, method, head, block)
    made = {i: forward(i) for i in range(4)}
    for i in (3, 1, 0, 2):
        again = backward(i)
        assert [part.ids for part in again] == [part.ids for part in made[i]]
        for part, other in zip(made[i], again, strict=True):
            for name in ("labels", "rows", "targets", "weight"):
                np.testing.assert_array_equal(getattr(part, name), getattr(other, name))
            for pixels, same in zip(part.images, other.images, strict=True):
                np.testing.assert_array_equal(pixels, same)
    assert any(not np.array_equal(pixels, other) for pixels, other in zip(
        made[0][0].images, batches(images, method, head, block, "another")(0)[0].images, strict=True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("augment", [SSD["augment"], AUGMENTED])
def test_targets_decode_to_the_objects_as_the_network_sees_them(tmp_path, method, augment):
    images, block = image_set(tmp_path, OBJECTS), settings(method, augment=augment)
    _, head = network_parts(method, block)
    made, positives = batches(images, method, head, block), 0
    for i in range(4):
        names = [name for part in made(i) for name in part.ids]
        examples = {name: made.example(3 * i + place, name) for place, name in enumerate(names)}
        for part in made(i):
            height, width = (max(pixels.shape[axis] for pixels in part.images) for axis in (0, 1))
            anchors = head.anchors(width, height)
            assert part.labels.shape == (len(part.images), len(anchors))
            image, row = np.divmod(part.rows, len(anchors))
            np.testing.assert_array_equal(np.flatnonzero(part.labels.ravel() > 0), part.rows)
            moved = decode(anchors[row], part.targets * head.form.scaling)
            for number, box, label in zip(image, moved, part.labels[image, row], strict=True):
                example = examples[part.ids[number]]
                near = np.abs(example.boxes - box).max(axis=1) < 0.05
                assert (example.labels[near] == label - 1).any()
            positives += len(part.rows)
    assert positives > 20


def test_losses_are_divided_by_the_positives_of_the_batch_or_of_each_image(tmp_path):
    """Case 122: image sums 10 (1 positive) and 99 (99): 5.5 image by image, 1.09 by the batch; a part or two alike."""
    images = image_set(tmp_path, OBJECTS)
    totals = {}
    for normaliser in ("batch", "image"):
        for parts in (1, 2, 3):
            block = settings("ssd", normaliser=normaliser, parts=parts)
            _, head = network_parts("ssd", block)
            made = batches(images, "ssd", head, block)(0)
            assert len(made) == parts
            positives = np.concatenate([(part.labels > 0).sum(axis=1) for part in made])
            weight = np.concatenate([part.weight for part in made])
            expected = np.full(3, 1 / positives.sum()) if normaliser == "batch" else 1 / positives.clip(1) / 3
            np.testing.assert_allclose(weight, expected, rtol=1e-6)
            backbone, head = network_parts("ssd", block)
            network = DenseNetwork(backbone, head)
            trunk = dense.trained_trunk(backbone, network.levels, 0, CPU.torch_device)
            losses = [dense.part_losses(network, trunk, part, block, CPU).losses for part in made]
            totals[normaliser, parts] = [sum(loss[name].item() for loss in losses)
                                         for name in ("classification", "boxes")]
    for normaliser in ("batch", "image"):
        assert totals[normaliser, 2] == pytest.approx(totals[normaliser, 1], rel=1e-4)
        assert totals[normaliser, 3] == pytest.approx(totals[normaliser, 1], rel=1e-4)
    assert totals["batch", 1] != pytest.approx(totals["image", 1], rel=1e-2)
    by_hand = [dense.weights([1, 99], normaliser) @ np.float32([10, 99]) for normaliser in ("image", "batch")]
    assert by_hand == pytest.approx([5.5, 1.09])
    assert dense.weights([0, 0], "batch").tolist() == [1, 1]


@pytest.mark.parametrize("method", METHODS)
def test_losses_are_those_written_out_plainly(tmp_path, method):
    """Image by image on the plain network, batch norm not folded."""
    images, block = image_set(tmp_path, OBJECTS), settings(method, box_weight=2.0)
    backbone, head = network_parts(method, block)
    network = DenseNetwork(backbone, head).train()
    trunk = dense.trained_trunk(backbone, network.levels, 0, CPU.torch_device)
    for part in batches(images, method, head, block)(0):
        made = dense.part_losses(network, trunk, part, block, CPU)
        with torch.no_grad():
            scores, deltas, _ = network(dense.to_batch(part.images, backbone.recipe, CPU))
        classes = block.loss(scores, torch.from_numpy(part.labels)) @ torch.from_numpy(part.weight)
        boxes = 0.0
        for row, target in zip(part.rows, part.targets, strict=True):
            image, anchor = divmod(int(row), scores.shape[1])
            for value, wanted in zip(deltas[image, anchor].tolist(), target.tolist(), strict=True):
                error = abs(value - wanted)
                smooth = error**2 / 2 / block.beta if error < block.beta else error - block.beta / 2
                boxes += 2.0 * float(part.weight[image]) * smooth
        assert made.losses["classification"].item() == pytest.approx(classes.item(), rel=1e-3)
        assert made.losses["boxes"].item() == pytest.approx(boxes, rel=1e-3, abs=1e-6)
        assert made.images == part.ids


def test_the_box_loss_of_the_facts():
    """SSD §13: 1.608246; RetinaNet §14: an anchor, its object, a prediction of 0 at two betas and as L1."""
    smooth = nn.functional.smooth_l1_loss
    target, predicted = torch.tensor([0.5966, -0.8203, -0.5554, 0.5604]), torch.tensor([0.0, 0, 0, 2])
    assert smooth(predicted, target, reduction="sum", beta=1.0).item() == pytest.approx(1.608246, abs=1e-6)
    deltas = torch.from_numpy(dense.encode(np.float32([[0, 0, 32, 32]]), np.float32([[4, -2, 40, 30]])))
    assert deltas[0].tolist() == pytest.approx([0.1875, -0.0625, 0.117783, 0], abs=1e-6)
    for beta, expected in ((0.11, 0.213039), (1 / 9, 0.211750), (0.0, 0.367783)):
        zero = torch.zeros(1, 4, requires_grad=True)
        loss = smooth(zero, deltas, reduction="none", beta=beta).sum()
        loss.backward()
        assert loss.item() == pytest.approx(expected, abs=1e-6)
        assert torch.isfinite(zero.grad).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("least", [0, 5])
def test_images_without_objects_have_a_loss_with_every_parameter_in_its_graph(tmp_path, method, least):
    """Case 121: SSD's authors let such an image teach nothing, RetinaNet all its negatives; boxes 0."""
    images = image_set(tmp_path, [[], []])
    block = settings(method, **({"loss": {**SSD["loss"], "least": least}} if method == "ssd" else {}))
    backbone, head = network_parts(method, block)
    network = DenseNetwork(backbone, head).train()
    trunk = dense.trained_trunk(backbone, network.levels, 1, CPU.torch_device)
    for part in batches(images, method, head, block)(0):
        losses = dense.part_losses(network, trunk, part, block, CPU).losses
        assert losses["boxes"].item() == 0
        assert (losses["classification"].item() > 0) == (method == "retinanet" or least > 0)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        grads = torch.autograd.grad(sum(losses.values()), trained)
        assert all(torch.isfinite(grad).all() for grad in grads)
        assert part.weight.tolist() == [1.0] * len(part.ids)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_the_whole_are_difference_quotients(tmp_path, method):
    """Through both losses, the head and the folded trunk, along the gradient of some of the weights."""
    images, block = image_set(tmp_path, OBJECTS[:1]), settings(method, images=1, parts=1)
    backbone, head = network_parts(method, block)
    network = DenseNetwork(backbone, head).train()
    trunk = dense.trained_trunk(backbone, network.levels, 0, CPU.torch_device)
    part = batches(images, method, head, block)(0)[0]

    def total():
        return sum(dense.part_losses(network, trunk, part, block, CPU).losses.values())

    weights = [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim == 4]
    pairs = [pair for pair in zip(weights, torch.autograd.grad(total(), weights), strict=True) if pair[1].norm() > 1e-3]
    assert len(pairs) > 12  # trunk and head; levels without positives have no gradient of their boxes
    for parameter, grad in pairs[:: len(pairs) // 6]:
        direction = grad / grad.norm()
        ends, step = [], 2e-3 / max(grad.norm().item(), 1)
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(direction, alpha=sign * step)
                ends.append(total().item())
                parameter.sub_(direction, alpha=sign * step)
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(grad.norm().item(), rel=0.05)


def train(folder, images, method, stop=None, stage="ssd", **changes):
    folder.mkdir(exist_ok=True)
    block = settings(method, augment=AUGMENTED, **changes)
    backbone, head = network_parts(method, block)
    network = DenseNetwork(backbone, head)
    trunk = dense.trained_trunk(backbone, network.levels, block.frozen, CPU.torch_device)

    def progress(todo, done):
        for i in todo:
            if i == stop:
                raise KeyboardInterrupt
            yield i

    log = loop.train(
        network, [head], batches(images, method, head, block), lambda part: dense.part_losses(
            network, trunk, part, block, CPU), block, CPU, 3, stage, folder, progress,
    )
    checkpoint.save(folder / "model.pt", contents(backbone, images.classes, block.scale, head))
    return log, hashlib.md5((folder / "model.pt").read_bytes()).hexdigest()


@pytest.mark.parametrize("method", METHODS)
def test_training_twice_and_after_a_kill_gives_the_same_bytes(tmp_path, method):
    images = image_set(tmp_path, OBJECTS)
    log, expected = train(tmp_path / "a", images, method)
    assert train(tmp_path / "b", images, method)[1] == expected
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", images, method, stop=3)
    assert train(tmp_path / "c", images, method)[1] == expected
    assert train(tmp_path / "d", images, method, box_weight=2.0)[1] != expected
    assert all(np.isfinite(list(row.values())).all() for row in log)


@pytest.mark.parametrize("frozen", [0, 2])
def test_frozen_parts_and_all_batch_norms_keep_their_bits(tmp_path, frozen):
    """Case 123: nothing of batch norm moves, and its mode is that of evaluation while all else trains."""
    images, block = image_set(tmp_path, OBJECTS), settings("retinanet")
    before = copy.deepcopy(network_parts("retinanet", block)[0].state_dict())
    train(tmp_path / "a", images, "retinanet", frozen=frozen)
    after = checkpoint.load(tmp_path / "a/model.pt", "trunk")["trunk"]
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[f"trunk.{name}"])}
    assert changed == ({"0", "1", "2", "3"} if frozen == 0 else {"2", "3"})
    assert all(torch.equal(value, before[f"trunk.{name}"]) for name, value in after.items() if "running" in name)
    backbone, head = network_parts("retinanet", block)
    network = DenseNetwork(backbone, head).train()
    assert network.head.training
    assert not any(norm.training for norm in norms(network))


def test_ignored_anchors_lie_between_the_thresholds(tmp_path):
    images = image_set(tmp_path, OBJECTS)
    block = settings("retinanet", matching=dict(positive=0.5, negative=0.4, best="none"))
    _, head = network_parts("retinanet", block)
    made = batches(images, "retinanet", head, block)
    for number, part in enumerate(made(0)):
        height, width = part.images[0].shape[:2]
        anchors = head.anchors(width, height)
        for image, image_id in enumerate(part.ids):
            boxes = made.example(number, image_id).boxes
            best = iou(anchors, boxes).max(axis=1, initial=0)
            ignored = part.labels[image] == IGNORED
            np.testing.assert_array_equal(ignored, (best >= 0.4) & (best < 0.5))


@pytest.mark.parametrize("method", METHODS)
def test_focal_loss_and_hard_negatives_can_be_exchanged(tmp_path, method):
    """By the one param `loss`: outputs, first bias and scores at test follow."""
    images, other = image_set(tmp_path, OBJECTS), settings("ssd" if method == "retinanet" else "retinanet").loss
    block = settings(method, loss=other.model_dump())
    log, _ = train(tmp_path / "a", images, method, loss=other.model_dump())
    _, head = network_parts(method, block)
    assert head.form.outputs == (3 if other.background else 2)
    assert head.form.background == other.background
    assert 0 < log[0]["classification"] < 30
    assert log[-1]["classification"] < log[0]["classification"]


HARD = dict(positive=0.75, negative=0.5, best="one")  # which some object reaches by its best box alone
CHANGES = [
    {"scale": {"side": 64}}, {"images": 2}, {"loss": {**SSD["loss"], "ratio": 1.0}},
    {"loss": {**SSD["loss"], "ratio": 0.0, "least": 4}}, {"normaliser": "image"}, {"beta": 0.5}, {"box_weight": 0.5},
    {"variances": [0.1, 0.3]}, {"matching": {**HARD, "positive": 0.6}}, {"matching": {**HARD, "negative": 0.3}},
    {"matching": {**HARD, "best": "none"}},
    *({"augment": {**SSD["augment"], **step}} for step in (
        {"photometric": True}, {"expand": 3.0}, {"crops": [0.1]}, {"interpolation": True}, {"mirror": 1.0})),
]


def test_every_setting_changes_what_is_learnt(tmp_path):
    """Case 124: a setting without effect is none. Those of the optimiser and `frozen` have tests of their own."""
    images = image_set(tmp_path, OBJECTS)

    def first_loss(**changes):
        block = settings("ssd", **{"matching": HARD, **changes})
        backbone, head = network_parts("ssd", block)
        network = DenseNetwork(backbone, head)
        trunk = dense.trained_trunk(backbone, network.levels, 0, CPU.torch_device)
        made = [dense.part_losses(network, trunk, part, block, CPU).losses
                for i in range(2) for part in batches(images, "ssd", head, block)(i)]
        return [value.item() for losses in made for value in losses.values()]

    expected = first_loss()
    assert first_loss() == expected
    for change in CHANGES:
        assert first_loss(**change) != expected, change


def test_an_object_that_is_left_out_takes_its_label_with_it(tmp_path):
    """Case 119: labels a, b, c, the first of which lies outside the patch: the anchor is b's, not c's."""
    boxes = np.float32([[0, 0, 20, 20], [60, 40, 100, 80], [110, 90, 150, 118]])
    whole = Example(np.zeros((120, 160, 3), np.uint8), boxes, np.arange(3))
    example = augment.cut(whole, np.float32([40, 30, 140, 110]))
    assert example.labels.tolist() == [1, 2]
    assigned = dense.assign(np.float32([[20, 10, 60, 50]]), example.boxes, 0.5, 0.4, "none")
    assert example.labels[assigned.object].tolist() == [1]


def test_anchors_of_another_size_are_refused(tmp_path):
    images, block = image_set(tmp_path, OBJECTS), settings("retinanet")
    backbone, head = network_parts("retinanet", block)
    network = DenseNetwork(backbone, head)
    part = batches(images, "retinanet", head, block)(0)[0]
    part.images[:] = [pixels[:40] for pixels in part.images]
    with pytest.raises(ValueError, match="anchors of the network for"):
        dense.part_losses(network, network.levels, part, block, CPU)


def test_several_sizes_are_refused():
    with pytest.raises(InputError, match=r"retinanet.train.scale: short_side is \[96, 128\]"):
        dense.one_view(dense.Scale(short_side=[96, 128], max_side=200), "retinanet.train")


@pytest.mark.parametrize(("change", "message"), [
    ({"variances": [0.0, 0.2]}, "variances.0"), ({"variances": [0.1, -0.2]}, "variances.1"),
    ({"normaliser": "images"}, "'batch' or 'image'"),
    ({"matching": dict(positive=0.4, negative=0.6, best="none")}, "negative up to positive"),
])
def test_settings_that_mean_nothing_are_refused(change, message):
    """Targets that are divided by 0; negatives above the IoU from which all are positive."""
    with pytest.raises(ValueError, match=message):
        settings("ssd", **change)
    settings("ssd", matching=dict(positive=0.5, negative=0.5, best="none"))
