import numpy as np
import pytest
import torch
from torchvision.ops import roi_pool

from lib.backbones import backbones
from lib.detectors.fast import network as fast
from tests.detectors.fast.models_on_disk import BOXES, CPU, IMAGE, plain, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def test_distinct_regions_pool_alike_exactly_when_their_cells_do():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 200, (300, 2))
    boxes = np.hstack([corner, corner + random.uniform(0.5, 90, (300, 2))]).astype(np.float32)
    boxes[:40] = np.round(boxes[:40] / 8) * 8 + 1  # corners at exact halves of a cell
    boxes = np.concatenate([boxes, boxes[:100] + np.float32(0.7)])
    first, group = fast.distinct(boxes, 16)
    maps = torch.arange(20 * 20, dtype=torch.float32).view(1, 1, 20, 20)
    rois = torch.from_numpy(np.hstack([np.zeros((400, 1), np.float32), boxes - np.float32([0, 0, 1, 1])]))
    pooled = torch.cat([sign * roi_pool(sign * maps, rois, 7, 1 / 16) for sign in (1, -1)], 1).flatten(1).numpy()
    np.testing.assert_array_equal(pooled, pooled[first][group])
    assert len(first) < 400
    assert len(np.unique(pooled, axis=0)) == len(first)
    np.testing.assert_array_equal(first, np.sort(first))


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
