import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.spp import finetune as spp_tuning
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.class_crops import epoch_length
from lib.detectors.spp.network import SppLayers
from lib.detectors.spp.pretrain import PretrainingBatches, normalised
from lib.images.warp import Crops
from lib.pooling.pyramid import Axis, Map, Window, pool_windows
from lib.training import windows as sampling

CPU = Device(torch.device("cpu"), torch.float32)


class FakeCrops:
    """Ten crops whose brightness is their number."""

    fixed, classes = True, ["a", "b"]
    names, labels = [f"{i}.jpg" for i in range(10)], [i % 2 for i in range(10)]

    def __init__(self):
        self.sides = []

    def cut(self, i, side, random):
        self.sides.append(side)
        return Crops(np.full((1, side, side, 3), 20 * i, np.uint8), np.array([[0, 0, side, side]]))


def make(frozen, budget=2**20, crops=None, mirror=0.0):
    torch.manual_seed(0)
    network = spp_network.SppNetwork(
        backbones.build("resnet18"), SppLayers(levels=[1, 2], fc=8, dropout=0), FakeCrops.classes
    ).eval()
    network.freeze(None if frozen else 3)
    crops = crops or FakeCrops()
    return network, PretrainingBatches(network, crops, [64, 32], 4, mirror, 2, 3, "spp_pretrain", CPU, frozen, budget)


def test_sizes_alternate_by_epoch_and_every_crop_is_seen_once():
    crops = FakeCrops()
    _, batches = make(False, crops=crops)
    assert epoch_length(10, 4) == 3
    for epoch, side in enumerate([64, 32, 64]):
        crops.sides.clear()
        names = [name for i in range(3) for piece in batches(3 * epoch + i) for name in piece.names]
        assert sorted(names) == sorted(crops.names)
        assert set(crops.sides) == {side}


def test_batches_are_a_pure_function_of_the_iteration_and_of_nothing_kept():
    _, one = make(True)
    _, other = make(True, budget=0)
    for i in (5, 0, 4):
        one(i)
    for i in (0, 4, 5):
        for a, b in zip(one(i), other(i), strict=True):
            assert a.names == b.names
            np.testing.assert_array_equal(a.inputs, b.inputs)
    assert one._cached_rows
    assert not other._cached_rows


def test_frozen_and_trained_trunk_have_the_same_loss():
    network, frozen = make(True)
    _, trained = make(False)
    trained._network = network
    for i in (0, 3):
        with torch.no_grad():
            losses = [
                sum(one.losses(piece).losses["classification"].item() for piece in one(i)) for one in (frozen, trained)
            ]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_a_short_last_batch_is_averaged_over_itself():
    network, batches = make(True)
    pieces = batches(2)
    assert [len(piece.labels) for piece in pieces] == [1, 1]
    with torch.no_grad():
        rows = torch.from_numpy(np.concatenate([piece.inputs for piece in pieces]))
        labels = torch.from_numpy(np.concatenate([piece.labels for piece in pieces]))
        expected = torch.nn.functional.cross_entropy(network.head(rows)[1], labels).item()
        assert sum(batches.losses(piece).losses["classification"].item() for piece in pieces) == pytest.approx(
            expected, rel=1e-5
        )


def test_gaps_are_exactly_the_mean():
    crops = Crops(np.full((1, 8, 8, 3), 255, np.uint8), np.array([[2, 0, 8, 8]]))
    inputs = normalised(crops, backbones.IMAGENET, CPU)
    assert not inputs[0, :, :, :2].any()
    assert (inputs[0, :, :, 2:] > 1).all()


class FakeMaps:
    """Maps whose cells hold their own column, plus 100 at the second scale and 1000 where mirrored."""

    scales, mirrored = [240, 480], True

    def map(self, image_id, scale, mirrored=False):
        x, y = Axis(scale // 12, 15.0, 16), Axis(scale // 16, 15.0, 16)
        base = 100.0 * (scale == 480) + 1000.0 * mirrored + (0 if image_id == "a" else 50)
        columns = np.broadcast_to(np.arange(x.cells, dtype=np.float16)[None, :, None], (y.cells, x.cells, 1))
        return Map(np.ascontiguousarray(columns + np.float16(base)), x, y)


class FakePhotographs:
    ids, classes = ["a", "b"], ["cat", "dog"]

    def size(self, image_id):
        return 320, 240

    def objects(self, image_id):
        if image_id == "b":
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return np.array([[0, 0, 60, 60]], np.float32), np.array([1])

    def regions(self, image_id, proposals):
        return np.concatenate([self.objects(image_id)[0], proposals[image_id]])


PROPOSALS = {
    "a": np.array([[0, 0, 60, 30], [0, 0, 60, 29], [0, 0, 60, 6], [0, 0, 60, 5], [200, 200, 240, 240]], np.float32),
    "b": np.array([[0, 0, 60, 60]], np.float32),
}
SETTINGS = {
    "iterations": 1,
    "optimiser": {"name": "sgd", "momentum": 0.0},
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "bias_multiplier": 1.0,
    "head_multiplier": 1.0,
    "schedule": {"name": "step", "every": 1, "gamma": 1.0},
    "parts": 2,
    "checkpoint_every": 1,
    "batch": 128,
    "foreground_share": 0.25,
    "foreground": 0.5,
    "background": 0.1,
    "mirror": 0.5,
    "precision": "float32",
}


def tuning():
    torch.manual_seed(0)
    classifier = spp_network.SppNetwork(backbones.build("resnet18"), SppLayers(levels=[1], fc=4, dropout=0), ["x"])
    classifier.head.fc6 = torch.nn.Linear(1, 4)
    window = Window(side=224, nearest="area", slack=1.5)
    network = spp_network.for_detection(classifier, FakePhotographs.classes, FakeMaps.scales, window)
    network.layers.levels[:] = [1]
    network.head.fc6 = torch.nn.Linear(1, 4)
    settings = spp_tuning.SppFineTuning(**SETTINGS)
    windows = spp_tuning.labelled_windows(FakePhotographs(), PROPOSALS, settings)
    return (
        network,
        windows,
        spp_tuning.FineTuningBatches(network, FakeMaps(), FakePhotographs(), windows, settings, 3, "spp_finetune", CPU),
    )


def test_pools_take_from_a_tenth_to_a_half():
    _, (foreground, background), _ = tuning()
    assert foreground.boxes[:, 3].tolist() == [60, 30]  # the object, and IoU 0.5 exactly
    assert foreground.label.tolist() == [2, 2]
    assert background.boxes[:, 3].tolist() == [29, 6]  # IoU 0.483 and 0.1 exactly; below, and without objects: neither
    assert not background.label.any()


def test_without_any_object_all_regions_are_background(monkeypatch):
    """Case 37: no window lies in [0.1, 0.5), so the lower limit is 0; a batch is background alone."""
    monkeypatch.setattr(
        FakePhotographs, "objects", lambda self, one: (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    )
    _, (foreground, background), batches = tuning()
    assert (len(foreground), len(background)) == (0, 6)
    assert not np.concatenate([piece.labels for piece in batches(0)]).any()


def test_batch_is_32_and_96_at_scales_drawn_evenly():
    _, _, batches = tuning()
    pieces = batches(0)
    labels = np.concatenate([piece.labels for piece in pieces])
    assert (len(labels), int((labels > 0).sum())) == (128, 32)
    rows = np.concatenate([piece.rows for piece in pieces])[:, 0]
    assert 40 < (rows % 1000 >= 100).sum() < 88
    assert 40 < (rows >= 1000).sum() < 88
    for a, b in zip(batches(0), pieces, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
    assert not np.array_equal(np.concatenate([piece.rows for piece in batches(1)])[:, 0], rows)


def test_a_mirrored_window_is_the_mirrored_box_on_the_mirrored_map():
    network, _, batches = tuning()
    box = np.array([[0, 0, 60, 60]], np.float32)
    drawn = sampling.Windows(np.zeros(2, np.int32), np.repeat(box, 2, 0), np.zeros(2, np.int16))
    rows = batches.pool(drawn, np.array([False, True]), np.array([1, 1]))
    seen, flipped = FakeMaps().map("a", 480), np.array([[260, 0, 320, 60]], np.float32)
    plain = pool_windows([seen], box, (320, 240), [480], np.zeros(1, int), network.window, [1])
    mirrored = pool_windows([seen], flipped, (320, 240), [480], np.zeros(1, int), network.window, [1])
    assert rows[0] == plain[0]
    assert rows[1] == mirrored[0] + 1000
    assert plain[0] != mirrored[0]


def test_loss_of_the_pieces_is_the_mean_over_the_batch():
    network, _, batches = tuning()
    pieces = batches(0)
    with torch.no_grad():
        rows = torch.from_numpy(np.concatenate([piece.rows for piece in pieces])).float()
        labels = torch.from_numpy(np.concatenate([piece.labels for piece in pieces]).astype(np.int64))
        expected = torch.nn.functional.cross_entropy(network.head(rows)[1], labels).item()
        assert sum(batches.losses(piece).losses["classification"].item() for piece in pieces) == pytest.approx(
            expected, rel=1e-5
        )
