import copy
import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.centring import centre
from lib.detectors.dense.network import DenseNetwork, to_batch
from lib.detectors.yolo import training
from lib.detectors.yolo.network import Grid, YoloHead, YoloLayers
from lib.detectors.yolo.training import YoloBatches, YoloTraining, part_losses
from lib.stage.errors import InputError
from lib.storage import checkpoint
from lib.training import loop
from tests.detectors.dense.models import COMMON, CPU, OBJECTS
from tests.detectors.dense.overfit import mean_average_precision
from tests.images_on_disk import image_set

PLAIN = dict(jitter=0.0, mirror=0.0, hue=0.0, saturation=1.0, exposure=1.0)
AUGMENTED = dict(jitter=0.2, mirror=0.5, hue=0.1, saturation=1.5, exposure=1.5)
LAYERS = YoloLayers(
    stride=16, convolutions=[{"width": 8, "stride": 1}, {"width": 8, "stride": 2}], groups=4, fc=10, dropout=0.0)
GRID = Grid(cells=3, boxes=2)
OWN = {key: value for key, value in COMMON.items() if key not in {"normaliser", "box_weight"}}
YOLO = dict(
    **{**OWN, "augment": PLAIN}, scale={"side": 96}, least=0.005, pretrain=0,
    loss=dict(coordinates=5.0, no_object=0.5, confidence="iou"),
)


def settings(**changes):
    return YoloTraining(**{**YOLO, **changes})


def parts_of(block, layers=LAYERS, grid=GRID):
    """A centred backbone of random weights, the network, and its trunk in training."""
    torch.manual_seed(0)
    backbone = centre(backbones.build("resnet18"))
    head = YoloHead(256, block.scale.side, layers, grid, 2)
    network = DenseNetwork(backbone, head).train()
    return backbone, network, training.trained_trunk(backbone, network.levels, block.frozen, CPU.torch_device)


def batches(images, block, stage="stage"):
    return YoloBatches(images, 3, (127.0,) * 3, block, 3, stage)


def test_a_batch_is_a_pure_function_of_seed_stage_and_iteration(tmp_path):
    images, block = image_set(tmp_path, OBJECTS), settings(augment=AUGMENTED)
    forward, backward = batches(images, block), batches(images, block)
    made = {i: forward(i) for i in range(3)}
    for i in (2, 0, 1):
        for part, other in zip(made[i], backward(i), strict=True):
            assert part.ids == other.ids
            for name in ("rows", "labels", "boxes", "images"):
                for value, same in zip(getattr(part, name), getattr(other, name), strict=True):
                    np.testing.assert_array_equal(value, same)
    other = batches(images, block, "another")(0)
    assert any(not np.array_equal(*pair) for pair in zip(made[0][0].images, other[0].images, strict=True))


@pytest.mark.parametrize("augment", [PLAIN, AUGMENTED])
def test_targets_are_the_objects_as_the_network_sees_them(tmp_path, augment):
    images, block = image_set(tmp_path, OBJECTS), settings(augment=augment)
    made, total = batches(images, block), 0
    for i in range(4):
        for number, part in enumerate(made(i)):
            first = 0 if number == 0 else len(made(i)[0].ids)
            for place, image_id in enumerate(part.ids):
                example = made.example(3 * i + first + place, image_id)
                inside = part.rows // 9 == place
                cell = part.rows[inside] % 9
                centres = (part.boxes[inside, :2] + np.stack([cell % 3, cell // 3], 1)) * 32
                half = part.boxes[inside, 2:] * 48
                for box, label in zip(np.hstack([centres - half, centres + half]), part.labels[inside], strict=True):
                    near = np.abs(example.boxes - box).max(axis=1) < 0.02
                    assert (example.labels[near] == label).any()
                    total += 1
    assert total >= 12


def test_losses_are_means_over_the_images_however_they_are_split(tmp_path):
    images, totals = image_set(tmp_path, OBJECTS), []
    for parts in (1, 2, 3):
        block = settings(parts=parts)
        _, network, trunk = parts_of(block)
        made = batches(images, block)(0)
        assert len(made) == parts
        losses = [part_losses(network, trunk, part, block, CPU).losses for part in made]
        totals.append({name: sum(loss[name].item() for loss in losses) for name in losses[0]})
    assert totals[1] == pytest.approx(totals[0], rel=1e-3)
    assert totals[2] == pytest.approx(totals[0], rel=1e-3)
    # By hand, image by image, on the plain network.
    block = settings(parts=3)
    backbone, network, _ = parts_of(block)
    expected = dict.fromkeys(totals[0], 0.0)
    for part in batches(images, block)(0):
        with torch.no_grad():
            outputs = network(to_batch(part.images, backbone.recipe, CPU))
            arrays = (torch.from_numpy(values) for values in (part.rows, part.labels, part.boxes))
            for name, value in block.loss(outputs, *arrays).items():
                expected[name] += value.item() / 3
    assert totals[0] == pytest.approx(expected, rel=1e-3)


def test_images_without_objects_teach_that_there_are_none(tmp_path):
    images, block = image_set(tmp_path, [[], []]), settings()
    _, network, trunk = parts_of(block)
    for part in batches(images, block)(0):
        losses = part_losses(network, trunk, part, block, CPU).losses
        assert {name for name, value in losses.items() if value.item() != 0} == {"no_object"}
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(sum(losses.values()), trained))


def train(folder, images, stop=None, layers=LAYERS, **changes):
    """The phases of a training, as `stages.train` runs them; the log, and the hash of the file."""
    block = settings(augment=AUGMENTED, **changes)
    backbone, network, trunk = parts_of(block, layers)
    given = SimpleNamespace(images=images, seed=3, stage="yolo", device=CPU)
    log = []
    for number, phase in enumerate(training.phases(given, block, network, trunk)):
        def progress(todo, done, number=number):
            for i in todo:
                if (number, i) == stop:
                    raise KeyboardInterrupt
                yield i

        scratch = folder / f"phase{number}"
        scratch.mkdir(parents=True, exist_ok=True)
        log += loop.train(
            network, phase.fresh, phase.batch, phase.losses, phase.settings, CPU, 3, "yolo", scratch, progress)
    checkpoint.save(folder / "model.pt", training.contents(backbone, images.classes, block.scale, network.head))
    return log, hashlib.md5((folder / "model.pt").read_bytes()).hexdigest()


def test_training_twice_and_after_a_kill_gives_the_same_bytes(tmp_path):
    images, layers = image_set(tmp_path, OBJECTS), LAYERS.model_copy(update={"dropout": 0.5})
    log, expected = train(tmp_path / "a", images, layers=layers)
    assert [list(row)[1:] for row in log] == [["centres", "sides", "confidence", "no_object", "classification"]] * 4
    for folder in ("b", "c"):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / folder, images, stop=(0, 3), layers=layers)
        assert train(tmp_path / folder, images, layers=layers)[1] == expected
    assert train(tmp_path / "e", images)[1] != expected, "dropout is in use"


def test_pretraining_at_half_of_the_side(tmp_path):
    """It moves the trunk alone, is resumed in either phase, and leaves nothing in the file."""
    images = image_set(tmp_path, OBJECTS)
    log, expected = train(tmp_path / "a", images, pretrain=2)
    assert [list(row)[1:] for row in log[:3]] == [["presence"], ["presence"], list(log[3])[1:]]
    assert expected != train(tmp_path / "b", images)[1]
    for folder, stop in (("c", (0, 1)), ("d", (1, 3))):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / folder, images, stop=stop, pretrain=2)
        assert train(tmp_path / folder, images, pretrain=2)[1] == expected
    assert list(checkpoint.load(tmp_path / "a/model.pt", "head")["head"]["tensors"]) == [
        name for name, _ in parts_of(settings())[1].head.state_dict().items()]

    block = settings(pretrain=2)
    _, network, trunk = parts_of(block)
    before = copy.deepcopy(network.state_dict())
    given = SimpleNamespace(images=images, seed=3, stage="yolo", device=CPU)
    phases = training.phases(given, block, network, trunk)
    phase = next(phases)
    part = phase.batch(0)[0]
    assert part.images[0].shape == (48, 48, 3)
    assert phase.settings.steps == 2
    present = {f"images/train{number}.png": row for number, row in enumerate([[1, 1], [0, 0], [1, 0]])}
    assert part.present.tolist() == [present[name] for name in part.ids]
    (tmp_path / "phase").mkdir()
    loop.train(network, phase.fresh, phase.batch, phase.losses, phase.settings, CPU, 3, "yolo", tmp_path / "phase",
               lambda todo, done: iter(todo))
    moved = {name.split(".")[0] for name, value in network.state_dict().items()
             if name in before and not torch.equal(value, before[name])}
    assert moved == {"levels"}
    next(phases)
    assert all(parameter.requires_grad for parameter in network.head.parameters())
    assert not any(parameter.requires_grad for parameter in network.presence.parameters())


CHANGES = [
    {"scale": {"side": 64}}, {"images": 2}, {"frozen": 2}, {"least": 0.4}, {"pretrain": 1},
    *({"loss": {**YOLO["loss"], **change}} for change in (
        {"coordinates": 1.0}, {"no_object": 1.0}, {"confidence": "one"})),
    *({"augment": {**AUGMENTED, name: PLAIN[name]}} for name in AUGMENTED),
]


def test_every_setting_changes_what_is_learnt(tmp_path):
    """Case 124: a setting without effect is none."""
    images = image_set(tmp_path, OBJECTS)
    base = {"iterations": 2, "learning_rate": 0.01}

    def hashed(number, **changes):
        merged = {**base, **changes}
        block = settings(**{"augment": AUGMENTED, **merged})
        backbone, network, trunk = parts_of(block)
        given = SimpleNamespace(images=images, seed=3, stage="yolo", device=CPU)
        values = []
        for place, phase in enumerate(training.phases(given, block, network, trunk)):
            scratch = tmp_path / f"{number}-{place}"
            scratch.mkdir()
            loop.train(network, phase.fresh, phase.batch, phase.losses, phase.settings, CPU, 3, "yolo", scratch,
                       lambda todo, done: iter(todo))
            values = [value.clone() for value in network.head.state_dict().values()]
        return values

    expected = hashed("base")
    for number, change in enumerate(CHANGES):
        made = hashed(number, **change)
        assert any(value.shape != other.shape or not torch.equal(value, other)
                   for value, other in zip(made, expected, strict=True)), change


def check(layers, cells, **changes):
    backbone = SimpleNamespace(level_channels={4: 1, 8: 1, 16: 1, 32: 1}, name="resnet18")
    training.check(backbone, LAYERS.model_copy(update=layers), Grid(cells=cells, boxes=2), settings(**changes), "yolo")


@pytest.mark.parametrize(("layers", "grid", "message"), [
    ({"stride": 64}, 3, r"yolo.layers.stride: is \[64\]. Allowed: some of \[4, 8, 16, 32\]"),
    ({"fc": None}, 4, r"yolo.grid.cells: is 4. Allowed: 3, the cells of the last map of 96 pixels, where"),
])
def test_layers_grid_and_images_that_do_not_fit_are_refused(layers, grid, message):
    with pytest.raises(InputError, match=message):
        check(layers, grid)
    check({}, 5)
    check({"fc": None}, 3)


@pytest.mark.parametrize(("stride", "least"), [(8, 32), (16, 32), (32, 64)])
def test_images_that_are_too_small_for_half_of_them_are_refused_before_the_training(stride, least):
    """With every other fault; a training without the classifier before may have them."""
    check({"stride": stride}, 3, scale={"side": least}, pretrain=2)
    check({"stride": stride}, 3, scale={"side": least - 1}, pretrain=0)
    with pytest.raises(InputError) as refused:
        check({"stride": stride, "fc": None}, 9, scale={"side": least - 1}, pretrain=2)
    cells, side = refused.value.faults
    assert cells.where == "params.yaml: yolo.grid.cells"
    assert str(side) == (
        f"params.yaml: yolo.train.scale.side: is {least - 1}. Allowed: at least {least} beside yolo.train.pretrain: "
        f"2, whose images are half as large: 16 pixels or more, and a cell of the trunk's map, {stride} pixels. "
        "Raise it, or set yolo.train.pretrain: 0.")


def test_the_smallest_images_of_both_phases_are_trained_on(tmp_path):
    layers = LAYERS.model_copy(update={"fc": None, "convolutions": LAYERS.convolutions[:1]})
    block = settings(scale={"side": 32}, pretrain=1)
    _, network, trunk = parts_of(block, layers, Grid(cells=2, boxes=2))
    given = SimpleNamespace(images=image_set(tmp_path, OBJECTS), seed=3, stage="yolo", device=CPU)
    for phase, side in zip(training.phases(given, block, network, trunk), (16, 32), strict=True):
        part = phase.batch(0)[0]
        assert part.images[0].shape == (side, side, 3)
        assert all(torch.isfinite(value) for value in phase.losses(part).losses.values())


def test_eight_images_are_learnt_by_heart(tmp_path):
    assert mean_average_precision(tmp_path, "yolo", 80) >= 0.95
    assert model_file.read(tmp_path / "models/yolo/detector.pt", "head").classes == ["cat", "dog"]
