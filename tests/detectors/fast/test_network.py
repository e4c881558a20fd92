import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.detectors.fast import network as fast
from tests.detectors.fast.models_on_disk import BOXES, CPU, IMAGE, plain, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def test_features_equal_the_plain_network_region_by_region(folder):
    extractor = fast.Extractor(folder / "one.pt", CPU, 4)
    rows = extractor.features(extractor.prepare(IMAGE, BOXES))
    _, fc7, probabilities, _ = plain(folder / "one.pt", IMAGE, BOXES, 96)
    np.testing.assert_allclose(rows["fc7"], fc7, atol=1e-3)
    np.testing.assert_allclose(rows["probabilities"], probabilities, atol=1e-4)
    assert extractor.widths == {"fc7": 16}


def test_the_same_after_loading_whatever_the_dropout(folder):
    """Case 39: weights and statistics come back as they were, also when training goes on with another dropout."""
    network, model = fast.load(folder / "one.pt")
    again = fast.restore_head(backbones.build("efficientnet_lite0"), model.sections["head"], 2, dropout=0.5)
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in again.modules()) == 2
    regions = torch.randn(4, 112, 7, 7)
    with torch.no_grad():
        for rows, expected in zip(again.eval()(regions), network.head(regions), strict=True):
            assert torch.equal(rows, expected)
    assert torch.equal(again.std, network.head.std)
    assert torch.equal(again.mean, network.head.mean)
