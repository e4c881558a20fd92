from dataclasses import replace

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from lib.visualization.cam import grad_cam, hires_cam
from tests.visualization.targets import small


def of_map(cells, score):
    """A target whose map is given."""
    return replace(small(), maps=lambda net, pixels: torch.tensor(cells, dtype=torch.float64)[None], score=score)


def test_the_worked_example():
    cells = [[[1, 2], [3, 4]], [[0, 1], [1, 0]]]
    score = lambda net, maps: 2 * maps[:, 0].mean((1, 2)) - 3 * maps[:, 1].mean((1, 2))  # noqa: E731
    assert grad_cam(of_map(cells, score))[0].tolist() == [[0.5, 0.25], [0.75, 2]]


def test_where_it_misleads():
    """A cell that lowers the score has the maximum: y = 4 A00 - A11, whose mean slope is 0.75."""
    score = lambda net, maps: 4 * maps[:, 0, 0, 0] - maps[:, 0, 1, 1]  # noqa: E731
    assert grad_cam(of_map([[[1, 2], [3, 4]]], score))[0].tolist() == [[0.75, 1.5], [2.25, 3]]


def test_no_positive_evidence_is_all_zero():
    assert not grad_cam(of_map([[[1, 2], [3, 4]]], lambda net, maps: -maps.sum((1, 2, 3)))).any()


def test_it_is_captums():
    target = small()
    expected = LayerGradCam(target.network, target.network.trunk).attribute(
        target.inputs, target=0, relu_attributions=True
    )
    torch.testing.assert_close(grad_cam(target), expected[:, 0])
    assert expected.max() > 0


def test_the_map_is_read_before_a_layer_works_in_place():
    """Case 148: the cells (-2, 3), behind which a ReLU overwrites; slopes 0 and 1, so 3 x 1/2 at each cell's value."""
    relu = nn.ReLU(inplace=True)
    heat = grad_cam(of_map([[[-2, 3]]], lambda net, maps: relu(maps).sum((1, 2, 3))))
    assert heat[0].tolist() == [[0, 1.5]]
    negative = grad_cam(of_map([[[-2, 3]]], lambda net, maps: relu(maps).sum((1, 2, 3)) - 2 * maps[:, 0, 0, 1]))
    assert negative[0].tolist() == [[1, 0]]  # slopes 0 and -1: -2 x -1/2, which an overwritten 0 would not give


def test_each_input_of_a_batch_has_its_own_map():
    """Case 150."""
    target = small(images=3)
    together = grad_cam(target)
    for number in range(3):
        alone = grad_cam(replace(target, inputs=target.inputs[number : number + 1]))
        torch.testing.assert_close(together[number : number + 1], alone, rtol=0, atol=1e-6)
    assert together.amax((1, 2)).max() > 0


@pytest.mark.parametrize("label", [0, 1])
def test_the_scores_own_slopes(label):
    """A slow twin: the slope of each cell by moving it."""
    target = small(label)
    cells = target.maps(target.network, target.inputs).detach()
    slopes = torch.zeros_like(cells)
    for place in [tuple(index) for index in torch.cartesian_prod(*map(torch.arange, cells.shape)).tolist()]:
        moved = cells.clone()
        moved[place] += 1e-6
        slopes[place] = (target.score(target.network, moved) - target.score(target.network, cells)).item() / 1e-6
    expected = (slopes.mean((2, 3), keepdim=True) * cells).sum(1).clamp(min=0)
    torch.testing.assert_close(grad_cam(target), expected, rtol=0, atol=1e-6)


def test_hires_cam_tells_where():
    """The facts' y = 4 A00 - A11 again: 4 and -4, whose sum is y; the negative cell is cut."""
    score = lambda net, maps: 4 * maps[:, 0, 0, 0] - maps[:, 0, 1, 1]  # noqa: E731
    assert hires_cam(of_map([[[1, 2], [3, 4]]], score))[0].tolist() == [[4, 0], [0, 0]]
