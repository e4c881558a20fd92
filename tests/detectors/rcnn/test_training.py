import numpy as np
import pytest
import torch

from lib.detectors.rcnn import network as rcnn
from lib.detectors.rcnn import training
from lib.images.warp import Crops
from lib.training.windows import Windows
from tests.detectors.rcnn.models_on_disk import CPU, write


def test_loss_is_the_mean_over_the_batch_in_parts(tmp_path):
    write(tmp_path)
    network = rcnn.load(tmp_path / "cnn.pt")
    random = np.random.default_rng(0)
    crops = Crops(random.integers(0, 256, (6, 64, 64, 3), np.uint8), np.tile([0, 0, 64, 64], (6, 1)))
    windows = Windows(np.zeros(6, np.int32), np.zeros((6, 4), np.float32), np.int16([0, 0, 1, 2, 3, 0]))
    with torch.no_grad():
        whole = torch.nn.functional.cross_entropy(
            network(network.prepare(crops, CPU))[2], torch.tensor([0, 0, 1, 2, 3, 0])
        )
        parts = []
        for rows in (slice(0, None, 2), slice(1, None, 2)):
            part = Crops(crops.pixels[rows], crops.covered[rows])
            parts.append(training.losses(network, part, windows[rows], 6, CPU)["classification"])
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-5)
