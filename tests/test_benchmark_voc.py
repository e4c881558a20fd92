"""benchmarks/voc.py on a dozen small images: what both sides get, and what is kept."""


import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import voc
from lib.backbones import model_file
from lib.backbones.device import pick_device
from lib.detectors.faster.rpn import ProposerGrid
from lib.stage import overlay, params, pipeline
from lib.storage import tables
from lib.training import loop
from tests.datasets.conftest import Voc, object_xml
from tools import preset

CPU = pick_device("cpu", "float32", training=True)
ITERATIONS = 4
CHANGES = {
    "data.lists.train": "train", "data.lists.test": "val", "faster.anchors.scales": [16.0, 32.0],
    "faster.propose.test.min_size": 4.0, "faster_joint.train.scale.short_side": [64],
    "faster_joint.train.iterations": ITERATIONS, "faster_joint.train.fc": 32,
    "faster_joint.train.proposing.min_size": 4.0, "faster_joint.train.frozen": 0, "data.val_fraction": 0.0,
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """Images of two sizes with a class each, and a folder for what is kept."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("voc")
    images = Voc(folder / "set")
    for number in range(12):
        size = (100, 80) if number % 2 else (60, 90)
        name, corners = ("dog", (11, 21, 40, 50)) if number % 2 else ("cat", (5, 11, 44, 60))
        difficult = "<difficult>1</difficult>" if number == 2 else ""  # nothing is learned from it
        images.add(f"{number:02d}", object_xml(name, corners, difficult), size=size, image_size=size)
    stems = [f"{number:02d}" for number in range(12)]
    images.lists(train=stems[:8], val=stems[8:])
    return folder


def values(scratch, **changes):
    changed = CHANGES | {"data.root": str(scratch / "set")} | {key.replace("__", "."): v for key, v in changes.items()}
    return overlay.apply(params.load("presets/default.yaml"), changed, "test")


def set_up(scratch, norm="trained", **changes):
    return voc.set_up(values(scratch, **changes), CPU, norm, scratch / "kept")


@pytest.fixture
def setup(scratch):
    """Tables and M0 are there, nothing is trained."""
    setup = set_up(scratch)
    for path in [setup.folder / "peer.pt", *setup.folder.rglob("detections*.parquet")]:
        path.unlink(missing_ok=True)
    return setup


def test_the_list_that_is_named_for_test_is_tested_on_and_what_is_kept_depends_on_what_the_peer_depends_on(scratch):
    setup = set_up(scratch)
    assert (len(setup.images("train")), len(setup.images("test"))) == (8, 4)
    assert setup.images("test").classes == ["cat", "dog"]
    ours = {"faster_joint__train__learning_rate": 0.1, "faster_joint__train__foreground_share": 0.1}
    assert set_up(scratch, **ours).folder == setup.folder
    assert set_up(scratch, faster_joint__train__mirror=0.25).folder != setup.folder
    assert set_up(scratch, "frozen").folder != setup.folder


def test_the_peer_trains_the_whole_trunk_and_with_norm_trained_scale_and_shift_but_no_statistics(scratch):
    numbers, norms = {}, {}
    for norm in voc.NORMS:
        peer = voc.Peer(set_up(scratch, norm))
        before = {name: value.clone() for name, value in peer.trunk.state_dict().items()}
        peer.step(0, peer.batch(0))
        trained = [value for group in peer.optimiser.param_groups for value in group["params"]]
        assert all(value.grad is not None for value in trained)
        assert peer.optimiser.defaults["fused"]
        numbers[norm] = sum(map(torch.numel, trained))
        after = peer.trunk.state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert {name for name in before if "running" in name or "tracked" in name}.isdisjoint(changed)
        layers = {name: layer for name, layer in peer.trunk.named_modules() if isinstance(layer, nn.BatchNorm2d)}
        norms[norm] = changed & {f"{name}.{part}" for name in layers for part in ("weight", "bias")}
        convolutions = {f"{name}.weight" for name, layer in peer.trunk.named_modules() if isinstance(layer, nn.Conv2d)}
        assert convolutions <= changed
    assert len(norms["trained"]) == 2 * len(layers)
    assert not norms["frozen"]
    assert numbers["trained"] - numbers["frozen"] == sum(2 * layer.num_features for layer in layers.values())


@pytest.mark.parametrize(("together", "shapes"), [(False, [(1, 3, 96, 64), (1, 3, 64, 80)]), (True, [(2, 3, 96, 80)])])
def test_the_peers_trunk_sees_images_one_by_one_without_padding_in_channels_last_order(setup, together, shapes):
    peer, seen = voc.Peer(setup), []
    batch = next(batch for batch in map(peer.batch, range(4)) if batch[0][0].shape != batch[1][0].shape)
    peer.trunk[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    peer.step(0, batch, together)
    assert sorted(tuple(image.shape) for image in seen) == sorted(shapes)
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in seen)


def test_both_have_the_same_images_and_the_same_anchors_but_for_the_rounding_of_their_sides(setup):
    task, peer = voc.our_task(setup), voc.Peer(setup)
    phase, *_ = task.phases()
    for i in range(3):
        ours, theirs = phase.batch(i), peer.batch(i)
        assert [item.labels.tolist() for item in ours] == [(target["labels"] - 1).tolist() for _, target in theirs]
    settings = setup.params["faster.anchors"]
    images = torch.zeros(1, 3, 64, 533)
    maps = model_file.read(setup.folder / "m0.pt").backbone.trunk(images)
    listed = torchvision_images(images)
    anchors = peer.model.rpn.anchor_generator(listed, [maps])[0].numpy()
    sides, centres = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
    assert centres.max(axis=0).tolist() == [33 * 16, 3 * 16]
    ours = ProposerGrid(settings, 16).of_image(533, 64)
    assert len(anchors) == len(ours)
    # Ours go ratio by ratio with rounded bases, theirs too, with rounded corners.
    assert np.abs(sides - (ours[:, 2:] - ours[:, :2])).max() <= 2


def torchvision_images(images):
    from torchvision.models.detection.image_list import ImageList

    return ImageList(images, [tuple(images.shape[2:])])


def test_a_mirrored_image_has_mirrored_objects(scratch):
    plain, mirrored = (voc.Peer(set_up(scratch, faster_joint__train__mirror=share)) for share in (0.0, 1.0))
    for (image, target), (other, moved) in zip(plain.batch(0), mirrored.batch(0), strict=True):
        assert torch.equal(image.flip(2), other)
        width = image.shape[2]
        assert torch.equal(moved["boxes"][:, [2, 0]], width - target["boxes"][:, [0, 2]])


def test_the_rate_follows_our_schedule_and_the_gradient_is_clipped(setup, monkeypatch):
    peer = voc.Peer(setup)
    peer.step(2, peer.batch(2))
    wanted = 4e-4 * loop.rate(2, setup.train)
    assert [group["lr"] for group in peer.optimiser.param_groups] == [wanted, wanted]
    gradients = torch.cat([value.grad.flatten() for group in peer.optimiser.param_groups for value in group["params"]])
    assert gradients.norm() <= 10.001
    monkeypatch.setitem(voc.PEER, "clip_norm", 0.5)
    peer.step(3, peer.batch(3))
    gradients = torch.cat([value.grad.flatten() for group in peer.optimiser.param_groups for value in group["params"]])
    assert gradients.norm().item() == pytest.approx(0.5, rel=1e-3)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(setup, monkeypatch):
    whole = voc.Peer(setup)
    for i in range(ITERATIONS):
        whole.step(i, whole.batch(i))
    monkeypatch.setattr(voc, "SAVE_S", 0.0)
    killed = voc.Peer(setup)
    step = killed.step
    monkeypatch.setattr(killed, "step", lambda i, batch: step(i, batch) if i < 2 else pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception, match="killed"):
        killed.train()
    resumed = voc.Peer(setup)
    resumed.train()
    assert resumed.done == ITERATIONS
    assert resumed.seconds > killed.seconds > 0
    assert resumed.peak_mib >= killed.peak_mib > 100
    for kind in ("trunk", "model"):
        expected, actual = (getattr(peer, kind).state_dict() for peer in (whole, resumed))
        assert all(torch.equal(value, actual[name]) for name, value in expected.items())
    again = voc.Peer(setup)
    monkeypatch.setattr(again, "step", lambda i, batch: pytest.fail("trained again"))
    again.train()
    assert (again.done, again.seconds, again.origin) == (resumed.done, resumed.seconds, resumed.origin)


def test_a_loss_that_is_not_finite_ends_the_training(setup):
    peer = voc.Peer(setup)
    with torch.no_grad():
        peer.model.roi_heads.box_predictor.cls_score.bias[0] = float("nan")
    with pytest.raises(ValueError, match="torchvision's loss is nan at iteration 3"):
        peer.step(3, peer.batch(3))


def test_at_test_the_peer_has_no_batch_norm_and_detects_what_it_did_with_it(setup):
    peer = voc.Peer(setup)
    with torch.no_grad():
        next(peer.trunk.parameters()).mul_(1.1)  # as if trained: other weights than M0's
    tests = setup.images("test")
    image = tests.image(tests.ids[0])
    run, types = peer.at_test(), set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: types.add(type(module)))
    boxes, labels, scores = run(image)
    handle.remove()
    assert nn.Conv2d in types
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in types)
    with torch.inference_mode():
        expected = peer.model.eval()([voc.pixels(image, CPU)])[0]
    assert len(boxes) == len(expected["boxes"]) > 0
    # A fresh head's scores are nearly equal, so rounding may change their order.
    np.testing.assert_allclose(np.sort(scores), np.sort(expected["scores"].numpy()), atol=1e-3)
    assert set(labels) <= {0, 1}
    assert boxes.min() >= 0
    assert (boxes.max(axis=0) <= [image.shape[1], image.shape[0]] * 2).all()


def test_detections_are_kept_piece_by_piece_and_scored_as_the_stage_does(setup, monkeypatch):
    monkeypatch.setattr(voc, "PIECE", 2)
    tests, seen = setup.images("test"), []

    def perfect(image):
        image_id = next(name for name in tests.ids if np.array_equal(tests.image(name), image))
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(image_id)
        boxes, labels = tests.objects(image_id)
        return boxes, labels, np.full(len(boxes), 0.9, np.float32)

    with pytest.raises(KeyboardInterrupt):
        voc.detect(setup, perfect)
    assert seen == tests.ids[:3]
    seen.clear()
    metrics = voc.score(setup, voc.detect(setup, perfect))
    assert seen == tests.ids[2:]
    assert {name: metrics[name] for name in ("voc10_map", "voc07_map", "coco_map", "images", "objects")} == {
        "voc10_map": 1.0, "voc07_map": 1.0, "coco_map": 1.0, "images": 4, "objects": 4,
    }


def test_the_times_are_of_both_in_turns(setup, monkeypatch):
    monkeypatch.setattr(voc, "STEPS", 2)
    monkeypatch.setattr(voc, "WARM_UP", 1)
    order, step, gradients = [], voc.Peer.step, loop._gradients
    monkeypatch.setattr(voc.Peer, "step", lambda *words: order.append("theirs") or step(*words))
    monkeypatch.setattr(loop, "_gradients", lambda *words: order.append("ours") or gradients(*words))
    figures = voc.step_times(setup, 2, 1)
    assert order == (["ours"] * 4 + ["theirs"] * 2) * 3  # two images a step
    assert (figures["rounds"], figures["steps"]) == (2, 2)
    assert min(figures["ours_s"], figures["torchvision_s"]) > 0
    figures = voc.test_times(setup, 3, None)
    assert (figures["images"], figures["models"]) == (3, "fresh")
    assert min(figures["ours_ms"], figures["torchvision_ms"]) > 0


def test_trained_models_are_timed_where_both_are_there(setup):
    from lib.storage import checkpoint

    model = setup.folder / "joint.pt"
    checkpoint.save(model, dict(voc.our_task(setup).sections()))
    assert voc.test_times(setup, 1, model)["models"] == "fresh"
    peer = voc.Peer(setup)
    peer.done = ITERATIONS
    peer.save()
    assert voc.test_times(setup, 1, model)["models"] == "trained"
    assert voc.test_times(setup, 1, None)["models"] == "fresh"


def test_the_medians_and_the_median_of_the_ratios():
    assert voc.compared([1.0, 4.0, 3.0], [2.0, 2.0, 6.0], "s") == {"ratio": 0.5, "ours_s": 3.0, "torchvision_s": 2.0}


def test_each_part_of_the_result_leaves_the_others(tmp_path):
    path = tmp_path / "voc.json"
    voc.publish(path, "times", {"step": {"ratio": 0.5}, "test": {"ratio": 0.75}})
    result = tables.read_json(path)
    assert (result["ratio_step"], result["ratio_test"]) == (0.5, 0.75)
    assert "difference_voc10" not in result
    voc.publish(path, "torchvision", {"voc10_map": 0.25})
    voc.publish(path, "ours", {"voc10_map": 0.5})
    result = tables.read_json(path)
    assert result["difference_voc10"] == 0.25
    assert (result["ratio_step"], result["differences"]) == (0.5, voc.DIFFERENCES)


def test_our_figures_are_stale_where_they_are_missing_or_of_other_code(tmp_path):
    assert voc.stale("digits", tmp_path)
    code = preset.digest(voc.ROW, pipeline.entries(), overlay.values("digits"))
    tables.write_json(tmp_path / "rows.json", {voc.ROW: {"code": code}})
    assert not voc.stale("digits", tmp_path)
    tables.write_json(tmp_path / "rows.json", {voc.ROW: {"code": "0"}})
    assert voc.stale("digits", tmp_path)


def test_the_preset_is_what_the_peer_is_made_for():
    checked = params.validate(overlay.values("voc2007-cpu"), voc.READS)
    train, anchors = checked[voc.BLOCK], checked["faster.anchors"]
    assert (train.resolved(2500, train.images).iterations, train.images, train.mirror) == (2500, 2, 0.5)
    assert (train.scale.short_side, train.scale.max_side) == ([400], 1000)
    assert (anchors.scales, anchors.ratios) == ([48.0, 96.0, 192.0, 384.0], [0.5, 1.0, 2.0])
    assert train.schedule.name == "cosine"
