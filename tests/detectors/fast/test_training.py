import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.backbones.scaling import Scale
from lib.boxes.boxes import flip
from lib.boxes.coding import encode
from lib.detectors.fast import network as fast
from lib.detectors.fast import training as ft
from lib.images.decode import content_of
from lib.images.image_set import ImageSet
from lib.stage.errors import InputError
from lib.storage import tables
from lib.storage.by_image import ByImage
from lib.training import loop as training
from lib.training.task import Given
from lib.training.trunk import TrainedTrunk

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog"]
SETTINGS = dict(
    iterations=3,
    optimiser=dict(name="adamw"),
    learning_rate=0.001,
    clip_norm=None,
    weight_decay=0.0005,
    bias_multiplier=1.0,
    head_multiplier=1.0,
    schedule=dict(name="cosine", warmup=0.0),
    parts=2,
    checkpoint_every=100,
    scale=Scale(short_side=[96], max_side=1000),
    images=2,
    regions=16,
    foreground_share=0.25,
    foreground=0.5,
    background=[0.1, 0.5],
    mirror=0.0,
    pooling="max",
    fc=16,
    fc_init="gaussian",
    dropout=0.0,
    head="fresh",
    frozen=3,
    box_loss="smooth_l1",
    beta=1.0,
    box_weight=1.0,
    stage_wise=False,
    statistics="per_class",
    std_floor=0.01,
    precision="float32",
)
OBJECTS = {
    "a.png": [("cat", 4, 4, 30, 40), ("dog", 30, 10, 60, 44)],
    "b.png": [("dog", 10, 10, 50, 40)],
    "none.png": [],
    "c.png": [("cat", 20, 0, 64, 30)],
}


def settings_with(**changes):
    return ft.FastTraining(**{**SETTINGS, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four noisy images of 64 x 48, one of them without objects, with 40 proposals each; M0 of random weights."""
    folder, random = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    images, objects = [], []
    proposals = []
    for image_id, things in OBJECTS.items():
        cv2.imwrite(str(folder / image_id), random.integers(0, 256, (48, 64, 3), np.uint8))
        content = content_of((folder / image_id).read_bytes())
        images.append((image_id, "train", 64, 48, False, content))
        objects += [(image_id, number, *thing, False, False, False) for number, thing in enumerate(things)]
        boxes = [thing[1:] + random.uniform(-6, 6, 4) for thing in things for _ in range(10)]
        corner = random.uniform(0, 40, (40 - len(boxes), 2))
        boxes += list(np.hstack([corner, corner + random.uniform(4, 20, corner.shape)]))
        proposals += [(image_id, *np.clip(box, 0, 48), 0.0) for box in boxes]
    contents = {"images": (images, tables.IMAGES), "objects": (objects, tables.OBJECTS),
                "proposals": (proposals, tables.PROPOSALS)}
    for name, (rows, schema) in contents.items():
        tables.write(folder / f"{name}.parquet", pd.DataFrame(rows, columns=schema.names), schema)
    tables.write_json(folder / "classes.json", CLASSES)
    torch.manual_seed(0)
    backbones.save_m0(folder / "m0.pt", backbones.build("efficientnet_lite0"))
    return folder


@pytest.fixture(scope="module")
def make_batches(folder):
    """Settings -> their `FastBatches`."""
    image_set, proposals = ImageSet(folder, folder, ["train"]), ByImage(folder / "proposals.parquet", tables.PROPOSALS)
    return lambda settings, seed=3: ft.FastBatches(image_set, proposals, settings, seed, "fast")


@pytest.fixture
def started(folder, make_batches):
    """Settings -> a network, its batches and its trunk at the first step."""

    def start(settings, files=("m0.pt",)):
        torch.manual_seed(1)
        model = model_file.read(folder / files[0])
        batches = make_batches(settings)
        head = ft.start_head(model, folder / files[1] if files[1:] else None, CLASSES, settings, batches)
        network = fast.FastNetwork(model.backbone, head)
        ft.freeze(network, settings, False)
        frozen = None if settings.frozen == "all" else settings.frozen
        return network.train(), batches, TrainedTrunk(network.trunk, frozen, CPU.torch_device, 2**24)

    return start


def train(network, batches, trunk, settings, scratch):
    def losses(item):
        return ft.item_losses(network, trunk, item, settings, CPU)

    def progress(todo, done):
        return iter(todo)

    return training.train(network, [], batches, losses, settings, CPU, 3, "fast", scratch, progress)


def total(network, trunk, items, settings):
    parts = [ft.item_losses(network, trunk, item, settings, CPU) for item in items]
    return sum(value for part in parts for value in part.losses.values())


def test_a_batch_is_a_function_of_seed_and_number(make_batches):
    one, two = make_batches(settings_with()), make_batches(settings_with())
    for i in (5, 0, 5):
        for left, right in zip(one(i), two(i), strict=True):
            assert left.key == right.key
            np.testing.assert_array_equal(left.rois, right.rois)
    other = make_batches(settings_with(), seed=4)(0)
    assert any(not np.array_equal(a.rois, b.rois) for a, b in zip(one(0), other, strict=False))


def test_each_pass_sees_each_image_once(make_batches):
    batches = make_batches(settings_with())
    for turn in range(5):
        assert sorted(batches.images(2 * turn) + batches.images(2 * turn + 1)) == sorted(OBJECTS)
    assert len({tuple(batches.images(2 * turn)) for turn in range(8)}) > 1
    assert len(make_batches(settings_with(images=9)).images(0)) == 4


def test_regions_of_a_batch(make_batches):
    batches = make_batches(settings_with())
    for i in range(6):
        items = batches(i)
        for item in items:
            assert len(item.rois) <= 8
            assert (item.label > 0).sum() <= 2
            assert item.total == sum(len(other.rois) for other in items)
            assert item.image.shape == (96, 128, 3)
            assert item.rois[:, 3].max() <= 128
            assert (item.target[item.label == 0] == 0).all()
            if item.key[0] == "none.png":
                assert not item.label.any()
                assert len(item.rois) == 8


def test_targets_are_normalised_once(make_batches):
    batches, seen = make_batches(settings_with(regions=64, foreground_share=1.0)), 0
    for item in batches(0) + batches(1):
        good = item.label > 0
        objects = np.float32([thing[1:] for thing in OBJECTS[item.key[0]]]).reshape(-1, 4) * 2
        raw = item.target[good] * batches.std[item.label[good]] + batches.mean[item.label[good]]
        for box, delta in zip(item.rois[good, 1:], raw, strict=True):
            distance = np.abs(encode(np.repeat(box[None], len(objects), 0), objects) - delta).max(1)
            assert distance.min() < 1e-4
            seen += 1
    assert seen > 10


def test_statistics_are_those_of_all_regions(make_batches):
    batches = make_batches(settings_with())
    regions = [batches.regions(name) for name in OBJECTS]
    for c in (1, 2):
        rows = np.concatenate([part.target[part.label == c] for part in regions])
        np.testing.assert_allclose(batches.std[c], rows.std(0), rtol=1e-4)
        np.testing.assert_allclose(batches.mean[c], rows.mean(0), atol=1e-5)
    assert (make_batches(settings_with(statistics="fixed")).std[1:] == np.float32([0.1, 0.1, 0.2, 0.2])).all()


def test_mirrored_images_and_their_targets(make_batches):
    settings = settings_with(statistics="fixed")
    plain, mirrored = make_batches(settings), make_batches(settings.model_copy(update={"mirror": 1.0}))
    for one, two in zip(plain(0), mirrored(0), strict=True):
        np.testing.assert_array_equal(one.image, two.image[:, ::-1])
        np.testing.assert_allclose(two.rois[:, 1:], flip(one.rois[:, 1:], 128), atol=1e-4)
        np.testing.assert_allclose(two.target, one.target * [-1, 1, 1, 1], atol=1e-6)
    half = make_batches(settings.model_copy(update={"mirror": 0.5}))
    counts = [len(pixels(half(i)) - pixels(plain(i))) for i in range(20)]
    assert 8 <= sum(counts) <= 32


def pixels(items):
    return {item.image.tobytes() for item in items}


def test_one_of_several_scales_for_each_image(make_batches):
    batches = make_batches(settings_with(scale=Scale(short_side=[64, 96], max_side=1000)))
    heights = {item.image.shape[0] for i in range(8) for item in batches(i)}
    assert heights == {64, 96}
    for item in batches(0):
        assert item.rois[:, 1:].max() <= item.image.shape[1]


def test_nothing_to_learn_from_is_an_error_and_empty_images_are_left_out(folder, make_batches, tmp_path):
    proposals = tables.read(folder / "proposals.parquet", tables.PROPOSALS)
    tables.write(tmp_path / "p.parquet", proposals[proposals["image_id"] != "none.png"], tables.PROPOSALS)
    image_set, without_one = ImageSet(folder, folder, ["train"]), ByImage(tmp_path / "p.parquet", tables.PROPOSALS)
    assert ft.FastBatches(image_set, without_one, settings_with(), 3, "fast").left_out == ["none.png"]
    none = settings_with(foreground=1.0, foreground_share=0.0, background=[0.0, 1e-9])
    tables.write(tmp_path / "q.parquet", proposals[:0], tables.PROPOSALS)
    with pytest.raises(InputError, match="none of 4 images has a region"):
        ft.FastBatches(image_set, ByImage(tmp_path / "q.parquet", tables.PROPOSALS), none, 3, "fast")


def test_images_side_by_side_equal_one_batch(started):
    """Parts: the losses and gradients of a batch of images are the sums over its images."""
    settings = settings_with()
    network, batches, trunk = started(settings)
    items = batches(0)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    apart = torch.autograd.grad(total(network, trunk, items, settings), parameters)
    images = torch.cat([network.recipe(torch.from_numpy(item.image.copy()).permute(2, 0, 1)[None]) for item in items])
    of_image = [torch.tensor([float(i), 0, 0, 0, 0]) for i in range(len(items))]
    rois = torch.cat([torch.from_numpy(item.rois) + first for item, first in zip(items, of_image, strict=True)])
    logits, deltas = network(images, rois)
    label = torch.from_numpy(np.concatenate([item.label for item in items]))
    target = torch.from_numpy(np.concatenate([item.target for item in items]))
    foreground = torch.nonzero(label)[:, 0]
    losses = ft.head_loss(logits, deltas, label, target, foreground, len(label), "smooth_l1", 1.0, 1.0)
    together = torch.autograd.grad(sum(losses.values()), parameters)
    assert sum(losses.values()).item() == pytest.approx(total(network, trunk, items, settings).item(), rel=1e-5)
    for one, two in zip(apart, together, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-2)


def test_gradient_of_the_whole_by_finite_differences(started):
    settings = settings_with(frozen=5, fc=8)
    network, batches, trunk = started(settings)
    for layer, deviation in ((network.head.layers[1], 0.02), (network.head.layers[3], 0.5), (network.head.box, 0.1)):
        torch.nn.init.normal_(layer.weight, std=deviation)
    items = batches(0)
    for module in (network.head.layers[1], network.head.score, network.head.box):
        gradient = torch.autograd.grad(total(network, trunk, items, settings), module.weight)[0]
        step = gradient / gradient.norm()
        values = []
        with torch.no_grad():
            for sign in (1, -1):
                module.weight += sign * 1e-3 * step
                values.append(total(network, trunk, items, settings).item())
                module.weight -= sign * 1e-3 * step
        assert (values[0] - values[1]) / 2e-3 == pytest.approx(gradient.norm().item(), rel=0.02)


def test_the_next_training_goes_on_at_the_loss_of_the_last(folder, started, tmp_path):
    """Case 39: statistics and weights of a file belong together, so nothing is normalised twice or lost."""
    settings = settings_with()
    network, batches, trunk = started(settings)
    train(network, batches, trunk, settings, tmp_path)
    network.train()
    before = losses(network, trunk, batches(7), settings)
    backbone = model_file.read(folder / "m0.pt").backbone
    backbone.trunk.load_state_dict(network.trunk.state_dict())
    section = fast.describe_head(network.head, settings.fc, 0.0)
    model_file.save(folder / "m2.pt", backbone, CLASSES, settings.scale, head=section, rpn={"tensors": {}})
    # Other regions have other statistics, which may not matter.
    again = settings_with(head="previous", foreground=0.6)
    resumed, other, its_trunk = started(again, ("m2.pt", "m2.pt"))
    np.testing.assert_array_equal(other.std, batches.std)
    after = losses(resumed, its_trunk, batches(7), again)
    np.testing.assert_allclose(after, before, atol=1e-6)


def losses(network, trunk, items, settings):
    parts = [ft.item_losses(network, trunk, item, settings, CPU) for item in items]
    return [value.item() for part in parts for value in part.losses.values()]


def test_fresh_outputs_on_the_layers_of_the_previous_head(folder, started):
    """py-faster-rcnn's step 4: fc6 and fc7 go on, the outputs and the statistics are new."""
    network, _, _ = started(settings_with())
    torch.manual_seed(5)
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter)
    network.head.set_statistics(torch.ones(3, 4), torch.ones(3, 4))
    model = model_file.read(folder / "m0.pt")
    section = fast.describe_head(network.head, 16, 0.0)
    model_file.save(folder / "before.pt", model.backbone, CLASSES, SETTINGS["scale"], head=section)
    again, batches, _ = started(settings_with(head="outputs"), ("m0.pt", "before.pt"))
    for name, value in network.head.layers.state_dict().items():
        assert torch.equal(again.head.layers.state_dict()[name], value)
    assert again.head.score.weight.std() < 0.02 < network.head.score.weight.std()
    assert not again.head.box.bias.any()
    assert not torch.equal(again.head.std, network.head.std)
    np.testing.assert_array_equal(again.head.std.numpy(), batches.std)


def test_a_head_that_pools_otherwise_is_refused(folder, started, tmp_path):
    """Its weights are of means, and this training would feed them maxima: silently worse."""
    settings = settings_with(pooling="align", fc_init="uniform")
    network, batches, trunk = started(settings)
    assert network.head.layers[1].weight.abs().max() <= 1 / network.head.layers[1].in_features ** 0.5
    train(network, batches, trunk, settings, tmp_path)
    backbone = model_file.read(folder / "m0.pt").backbone
    section = fast.describe_head(network.head, settings.fc, 0.0)
    model_file.save(folder / "aligned.pt", backbone, CLASSES, settings.scale, head=section)
    with pytest.raises(InputError, match=r"aligned.pt: pools its regions by align, and this training by max. Allowed: "
                                         r"the same in both trainings. Set pooling: align in this training's block"):
        started(settings_with(head="previous"), ("aligned.pt", "aligned.pt"))
    resumed, _, _ = started(settings_with(head="outputs", pooling="align"), ("aligned.pt", "aligned.pt"))
    assert resumed.head.pooling == "align"


@pytest.mark.parametrize(("frozen", "moving"), [("all", []), (3, ["3", "4", "5"]), (0, ["0", "1", "2", "3", "4", "5"])])
def test_frozen_parts_and_batch_norm_keep_their_bits(started, tmp_path, frozen, moving):
    """Case 40: buffers too."""
    settings = settings_with(frozen=frozen, iterations=1)
    network, batches, trunk = started(settings)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    log = train(network, batches, trunk, settings, tmp_path)
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert sorted({name.split(".")[1] for name in changed if name.startswith("trunk")}) == moving
    assert not any("bn" in name or "running" in name for name in changed)
    assert {"head.score.weight", "head.box.weight", "head.layers.1.weight"} <= changed
    assert set(log[0]) == {"iteration", "classification", "boxes"}


def test_images_that_come_again_are_mirrored_or_scaled_as_sampled(started):
    """Feature maps of frozen parts are kept by image, mirroring and scale: a mix-up would go unnoticed."""
    settings = settings_with(mirror=0.5, scale=Scale(short_side=[64, 96], max_side=1000))
    network, batches, trunk = started(settings)
    fresh = TrainedTrunk(network.trunk, settings.frozen, CPU.torch_device)
    kept = set()
    for i in range(8):
        items = batches(i)
        kept |= {item.key for item in items}
        with torch.no_grad():
            assert torch.equal(total(network, trunk, items, settings), total(network, fresh, items, settings))
    assert len(trunk) == len(kept) > 4


def test_stage_wise(started, tmp_path):
    settings = settings_with(stage_wise=True, iterations=1)
    first, second = settings.phases("fast.train")
    assert settings_with().phases("fast.train") == [settings_with()]
    network, batches, trunk = started(first)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for number, (phase, expected) in enumerate(((first, False), (second, True))):
        ft.freeze(network, phase, boxes_only=expected)
        (tmp_path / str(number)).mkdir()
        train(network, batches, trunk, phase, tmp_path / str(number))
        changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert (changed == {"head.box.weight", "head.box.bias"}) == expected
        assert ("head.box.weight" in changed) == expected
        before = {name: value.clone() for name, value in network.state_dict().items()}


def test_heads_that_do_not_fit(folder, started):
    model = model_file.read(folder / "m0.pt")
    network, _, _ = started(settings_with())
    section = fast.describe_head(network.head, 16, 0.0)
    model_file.save(folder / "other.pt", model.backbone, ["cow", "dog"], SETTINGS["scale"], head=section)
    with pytest.raises(InputError, match=r"\['cow', 'dog'\].*\['cat', 'dog'\]"):
        started(settings_with(head="previous"), ("m0.pt", "other.pt"))
    small = backbones.build("alexnet")
    model_file.save(folder / "trunk.pt", small, CLASSES, SETTINGS["scale"])
    with pytest.raises(InputError, match="has a trunk alone"):
        started(settings_with(), ("trunk.pt",))


@pytest.mark.parametrize("head", ["previous", "outputs"])
def test_a_head_that_the_command_does_not_give_is_named_by_its_setting(head):
    """Before any proposal is read: `fast` and M2 have no model in the role `head`, M4 has."""
    params = {"fast.train": settings_with(head=head)}
    given = Given("fast", "fast.train", "fast", params, 3, None, None, {"model": "m0.pt"}, CPU, 0)
    with pytest.raises(InputError, match=rf"params.yaml: fast.train.head: is '{head}'.*Allowed: fresh"):
        ft.task(given)


def test_settings_are_checked():
    for change in ({"background": [0.1]}, {"frozen": "some"}, {"box_loss": "l1"}, {"dropout": 1.0}):
        with pytest.raises(ValidationError):
            settings_with(**change)
