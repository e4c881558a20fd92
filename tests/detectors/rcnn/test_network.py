import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.rcnn import network as rcnn
from lib.images.warp import Crops, Uncut
from tests.detectors.rcnn.models_on_disk import BOXES, CLASSES, CPU, IMAGE, write


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def test_fresh_classifier_as_in_the_authors_prototxt():
    torch.manual_seed(0)
    crop = rcnn.Crop(side=64, context=16, shape="warp", pool5_grid=6)
    network = rcnn.RcnnNetwork(backbones.build("resnet18"), CLASSES, crop)
    assert network.classifier.out_features == 4
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not network.classifier.bias.any()


def test_padding_is_exactly_the_mean(models):
    network = rcnn.load(models / "cnn.pt")
    crops = network.cut(np.full((50, 50, 3), 200, np.uint8), np.float32([[0, 0, 30, 30]]))
    inputs = network.prepare(crops, CPU)
    left, top = crops.covered[0, :2]
    assert left > 0
    assert (inputs[0, :, :top] == 0).all()
    assert (inputs[0, :, :, :left] == 0).all()
    assert (inputs[0, :, top:, left:] != 0).all()


def test_features_do_not_depend_on_the_batch_and_equal_the_plain_network(models):
    features = []
    for batch in (1, 2, 64):
        extractor = rcnn.Extractor(models / "cnn.pt", CPU, batch)
        features.append(extractor.features(extractor.prepare(IMAGE, BOXES)))
    network = rcnn.load(models / "cnn.pt")
    with torch.no_grad():
        pool5, fc7, logits = network(network.prepare(network.cut(IMAGE, BOXES), CPU))
    for rows in features:
        np.testing.assert_allclose(rows["pool5"], pool5.numpy(), atol=2e-4)
        np.testing.assert_allclose(rows["fc7"], fc7.numpy(), atol=2e-4)
        np.testing.assert_allclose(rows["probabilities"], logits.softmax(1).numpy(), atol=1e-5)
    assert extractor.widths == {"pool5": 512, "fc7": 512}


def test_crops_that_the_device_cuts_give_the_same_features(models):
    """Of random weights, whose features change by the two hundredth part where pixels change by 1 of 255."""
    extractor = rcnn.Extractor(models / "cnn.pt", CPU, 2)
    rows = extractor.features(extractor.prepare(IMAGE, BOXES))
    cut_there = extractor.features(extractor.network.uncut(IMAGE, BOXES))
    for name, expected in rows.items():
        assert np.abs(cut_there[name] - expected).max() < 0.02 * np.abs(expected).max()
    network = extractor.network
    inputs = list(network.batches(network.uncut(IMAGE, BOXES), CPU, 2))
    assert [len(part) for part in inputs] == [2, 2, 1]
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part in inputs)
    expected = network.prepare(network.cut(IMAGE, BOXES), CPU)
    levels = np.array(network.backbone.recipe.std)[:, None, None] * (torch.cat(inputs) - expected).numpy()
    assert np.abs(levels).max() < 1.001
    assert ((torch.cat(inputs) == 0) == (expected == 0)).all()


def test_only_a_cpu_cuts_beforehand(models):
    extractor = rcnn.Extractor(models / "cnn.pt", CPU, 2)
    assert isinstance(extractor.prepare(IMAGE, BOXES), Crops)
    extractor._device = Device(torch.device("cuda"), torch.float32)
    assert isinstance(extractor.prepare(IMAGE, BOXES), Uncut)
