from dataclasses import replace

import numpy as np
import torch

from lib.visualization.occlusion import occlusion
from tests.visualization.targets import small

ROW0 = [264, 264, 264, 288, 312, 312, 336, 360, 360, 360]
ROW9 = [1224, 1224, 1224, 1248, 1272, 1272, 1296, 1320, 1320, 1320]


def total(inputs, box, window=(0, 0, 10, 10)):
    """The sum of the first colour as the score."""
    return replace(
        small(), inputs=inputs, maps=lambda net, pixels: pixels, score=lambda net, maps: maps[:, 0].sum((1, 2)),
        window=np.float32(window), box=np.float32(box),
    )


def counting(side=10):
    inputs = torch.zeros(1, 3, side, side)
    inputs[0, 0] = torch.arange(side * side, dtype=torch.float32).view(side, side)
    return inputs


def test_windows_over_the_whole_input():
    """10 x 10 pixels, 3 windows a side of ceil(10 / 3) = 4, every 2: by a slow twin that occludes by hand."""
    inputs = counting()
    heat = occlusion(total(inputs, (0, 0, 10, 10)), 3)
    lost, covered = np.zeros((10, 10)), np.zeros((10, 10))
    for top in range(0, 8, 2):
        for left in range(0, 8, 2):
            window = slice(top, top + 4), slice(left, left + 4)
            lost[window] += inputs[0, 0][window].sum().item()
            covered[window] += 1
    np.testing.assert_allclose(heat.numpy(), lost / covered, rtol=1e-6)


def test_the_worked_example_of_captum():
    """Window 4 every 3, as in the facts: what our mean over windows is built on."""
    from captum.attr import Occlusion

    heat = Occlusion(lambda pixels: pixels.sum((1, 2, 3))).attribute(counting()[:, :1], (1, 4, 4), (1, 3, 3), 0)
    assert heat[0, 0, 0].tolist() == ROW0
    assert heat[0, 0, 9].tolist() == ROW9


def test_only_the_box_and_its_surroundings():
    """A box of 4 pixels has half of that around it: 8 pixels, less what lies outside; further away it is 0."""
    inputs = torch.ones(1, 3, 20, 20)
    heat = occlusion(total(inputs, (1, 8, 5, 12), (0, 0, 20, 20)), 2).numpy()
    rows, columns = np.flatnonzero(heat.any(1)), np.flatnonzero(heat.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (6, 13, 0, 6)
    assert (heat[6:14, :7] > 0).all()
    assert inputs.min() == 1


def test_a_box_of_a_pixel():
    assert occlusion(total(torch.ones(1, 3, 10, 10), (9.2, 9.2, 9.5, 9.5)), 4).shape == (10, 10)
