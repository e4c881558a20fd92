import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.spp.class_crops import epoch_length
from lib.detectors.spp.network import SppLayers, SppNetwork
from lib.detectors.spp.pretrain import PretrainingBatches
from lib.images.warp import Crops
from tests import simulated_device

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


def make(frozen, budget=2**20, crops=None, mirror=0.0, device=CPU):
    torch.manual_seed(0)
    layers = SppLayers(levels=[1, 2], fc=8, dropout=0)
    network = SppNetwork(backbones.build("resnet18"), layers, FakeCrops.classes).eval()
    network.freeze(None if frozen else 3)
    crops = crops or FakeCrops()
    settings = [64, 32], 4, mirror, 2, 3, "spp_pretrain", device, frozen, budget
    return network, PretrainingBatches(network, crops, *settings)


def test_sizes_alternate_by_epoch_and_every_crop_is_seen_once():
    crops = FakeCrops()
    _, batches = make(False, crops=crops)
    assert epoch_length(10, 4) == 3
    for epoch, side in enumerate([64, 32, 64]):
        crops.sides.clear()
        names = [name for i in range(3) for part in batches(3 * epoch + i) for name in part.names]
        assert sorted(names) == sorted(crops.names)
        assert set(crops.sides) == {side}


def test_batches_are_a_pure_function_of_the_iteration_and_of_no_cache():
    _, cached = make(True)
    _, uncached = make(True, budget=0)
    for i in (5, 0, 4):
        cached(i)
    for i in (0, 4, 5):
        for a, b in zip(cached(i), uncached(i), strict=True):
            assert a.names == b.names
            np.testing.assert_array_equal(a.inputs, b.inputs)
    assert cached._cached_rows
    assert not uncached._cached_rows


def test_rows_of_a_frozen_trunk_come_from_a_gpu_at_once_and_only_where_they_are_new():
    _, expected = make(True)
    with simulated_device.installed() as gpu:
        _, batches = make(True, device=Device(torch.device("cuda"), torch.float32))
        for i, waits_wanted in ((0, None), (1, 1), (2, 1), (6, 0), (7, 0)):
            with gpu.counting() as waits:
                parts = batches(i)
            assert waits_wanted is None or len(waits) == waits_wanted
            for part, of_cpu in zip(parts, expected(i), strict=True):
                assert part.names == of_cpu.names
                np.testing.assert_allclose(part.inputs, of_cpu.inputs, atol=1e-5)


def test_rows_are_kept_up_to_the_budget():
    network, batches = make(True, budget=5 * 4 * 5 * 256)
    for i in range(3):
        batches(i)
    assert network.head.fc6.in_features == 5 * 256
    assert len(batches._cached_rows) == 5


def total(batches, i):
    return sum(batches.losses(part).losses["classification"].item() for part in batches(i))


def test_frozen_and_trained_trunk_have_the_same_loss():
    network, frozen = make(True)
    _, trained = make(False)
    trained._network = network
    for i in (0, 3):
        with torch.no_grad():
            assert total(frozen, i) == pytest.approx(total(trained, i), rel=1e-3)


def test_a_short_last_batch_is_averaged_over_itself():
    network, batches = make(True)
    parts = batches(2)
    assert [len(part.labels) for part in parts] == [1, 1]
    with torch.no_grad():
        rows = torch.from_numpy(np.concatenate([part.inputs for part in parts]))
        labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
        expected = torch.nn.functional.cross_entropy(network.head(rows)[1], labels).item()
        assert total(batches, 2) == pytest.approx(expected, rel=1e-5)


def test_gaps_are_exactly_the_mean():
    crops = Crops(np.full((1, 8, 8, 3), 255, np.uint8), np.array([[2, 0, 8, 8]]))
    inputs = crops.normalised(backbones.IMAGENET, CPU.put)
    assert not inputs[0, :, :, :2].any()
    assert (inputs[0, :, :, 2:] > 1).all()
