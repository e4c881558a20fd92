import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.spp import finetune as spp_tuning
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.network import SppLayers
from lib.pooling.pyramid import Axis, Map, Window, pool_windows
from lib.training import windows as sampling

CPU = Device(torch.device("cpu"), torch.float32)


class FakeMaps:
    """Maps whose cells hold their own column, plus 100 at the second scale and 1000 where mirrored."""

    scales, mirrored = [240, 480], True

    def map(self, image_id, scale, mirrored=False):
        x, y = Axis(scale // 12, 15.0, 16), Axis(scale // 16, 15.0, 16)
        base = 100.0 * (scale == 480) + 1000.0 * mirrored + (0 if image_id == "a" else 50)
        columns = np.broadcast_to(np.arange(x.cells, dtype=np.float16)[None, :, None], (y.cells, x.cells, 1))
        return Map(np.ascontiguousarray(columns + np.float16(base)), x, y)


class FakeImages:
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
    "clip_norm": None,
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
    network = spp_network.for_detection(classifier, FakeImages.classes, FakeMaps.scales, window)
    network.layers.levels[:] = [1]
    network.head.fc6 = torch.nn.Linear(1, 4)
    settings = spp_tuning.SppFineTuning(**SETTINGS)
    windows = spp_tuning.labelled_windows(FakeImages(), PROPOSALS, settings)
    batches = spp_tuning.FineTuningBatches(
        network, FakeMaps(), FakeImages(), windows, settings, 3, "spp_finetune", CPU
    )
    return network, windows, batches


def test_background_is_from_a_tenth_to_a_half():
    _, (foreground, background), _ = tuning()
    assert foreground.boxes[:, 3].tolist() == [60, 30]  # the object, and IoU 0.5 exactly
    assert foreground.label.tolist() == [2, 2]
    assert background.boxes[:, 3].tolist() == [29, 6]  # IoU 0.483 and 0.1 exactly; below, and without objects: neither
    assert not background.label.any()


def test_without_any_object_all_regions_are_background(monkeypatch):
    """Case 37: no window lies in [0.1, 0.5), so the lower limit is 0; a batch is background alone."""
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    monkeypatch.setattr(FakeImages, "objects", lambda self, image_id: nothing)
    _, (foreground, background), batches = tuning()
    assert (len(foreground), len(background)) == (0, 6)
    assert not np.concatenate([part.labels for part in batches(0)]).any()


def test_batch_is_32_and_96_at_scales_sampled_evenly():
    _, _, batches = tuning()
    parts = batches(0)
    labels = np.concatenate([part.labels for part in parts])
    assert (len(labels), int((labels > 0).sum())) == (128, 32)
    rows = np.concatenate([part.rows for part in parts])[:, 0]
    assert 40 < (rows % 1000 >= 100).sum() < 88
    assert 40 < (rows >= 1000).sum() < 88
    for a, b in zip(batches(0), parts, strict=True):
        np.testing.assert_array_equal(a.rows, b.rows)
    assert not np.array_equal(np.concatenate([part.rows for part in batches(1)])[:, 0], rows)


def test_a_mirrored_window_is_the_mirrored_box_on_the_mirrored_map():
    network, _, batches = tuning()
    box = np.array([[0, 0, 60, 60]], np.float32)
    windows = sampling.Windows(np.zeros(2, np.int32), np.repeat(box, 2, 0), np.zeros(2, np.int16))
    rows = batches.pool(windows, np.array([False, True]), np.array([1, 1]))
    feature_map, flipped = FakeMaps().map("a", 480), np.array([[260, 0, 320, 60]], np.float32)
    plain = pool_windows([feature_map], box, (320, 240), [480], np.zeros(1, int), network.window, [1])
    mirrored = pool_windows([feature_map], flipped, (320, 240), [480], np.zeros(1, int), network.window, [1])
    assert rows[0] == plain[0]
    assert rows[1] == mirrored[0] + 1000
    assert plain[0] != mirrored[0]


def test_loss_of_the_parts_is_the_mean_over_the_batch():
    network, _, batches = tuning()
    parts = batches(0)
    with torch.no_grad():
        rows = torch.from_numpy(np.concatenate([part.rows for part in parts])).float()
        labels = torch.from_numpy(np.concatenate([part.labels for part in parts]).astype(np.int64))
        expected = torch.nn.functional.cross_entropy(network.head(rows)[1], labels).item()
        losses = [batches.losses(part).losses["classification"].item() for part in parts]
    assert sum(losses) == pytest.approx(expected, rel=1e-5)
