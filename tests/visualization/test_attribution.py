from dataclasses import replace

import numpy as np
import pytest
import torch

from lib.visualization.attribution import CENTRE, KINDS, OF_NETWORK, attribute, heat, maps, shown
from lib.visualization.fields import Axis, Fields
from tests.visualization.targets import small

FIELDS = Fields(Axis(6, 2, 1.0), Axis(6, 2, 1.0), (8, 8))


def single(**changes):
    target = small()
    return replace(target, network=target.network.float(), inputs=target.inputs.float(), **changes)


def test_one_value_of_each_pixel():
    assert heat(np.float32([[[1, -5]], [[2, 0]], [[-3, 4]]])).tolist() == [[3, 5]]  # colours: the largest size
    assert heat(np.float32([[[1, -5]]])).tolist() == [[1, 0]]  # without: what speaks for the score


def test_guided_grad_cam_is_the_product():
    made = maps(single(), FIELDS)
    assert list(made) == list(OF_NETWORK)
    np.testing.assert_array_equal(made["guided_grad_cam"], made["guided"] * made["grad_cam"])
    assert {kind: values.shape for kind, values in made.items()} == {
        **dict.fromkeys(OF_NETWORK, (3, 8, 8)), "grad_cam": (1, 8, 8), "hires_cam": (1, 8, 8),
    }
    assert list(maps(single(), FIELDS, ["grad_cam"])) == ["grad_cam"]


def test_every_map_is_judged_and_the_baseline_with_them():
    made = attribute(single(), FIELDS, (8, 8), np.float32([2, 2, 6, 6]), 2, 4, 0)
    assert list(made.heats) == [*KINDS, CENTRE]
    assert made.numbers[CENTRE]["points"] is True
    for kind, values in made.heats.items():
        numbers = made.numbers[kind]
        assert values.shape == (8, 8)
        assert values.min() >= 0
        assert numbers["empty"] == (not values.any())
        assert ("head" in numbers) == (kind in OF_NETWORK)
    assert made.numbers["gradient"]["all"] is not None


def test_what_is_no_image_has_no_map():
    """A crop whose left half lies outside the image: its mean colour explains nothing."""
    target = single(window=np.float32([-4, 0, 4, 8]))
    assert shown(target, 8, 8).tolist() == [4, 0, 8, 8]
    made = attribute(target, FIELDS, (8, 8), np.float32([0, 2, 2, 6]), 2, 4, 0)
    for kind in KINDS:
        assert not made.heats[kind][:, :4].any()
    assert np.unravel_index(made.heats[CENTRE].argmax(), (8, 8))[1] in (5, 6)


def test_the_box_in_pixels_of_the_input():
    """An input of 8 x 8 that shows pixels 10 .. 26 x 20 .. 36: half of them a side."""
    target = single(window=np.float32([10, 20, 26, 36]))
    assert target.to_input(np.float32([[12, 24, 26, 36]])).tolist() == [[1, 2, 8, 8]]


@pytest.mark.parametrize("kind", OF_NETWORK)
def test_the_same_seed_gives_the_same(kind):
    first, second = (attribute(single(), FIELDS, (8, 8), np.float32([2, 2, 6, 6]), 2, 4, 0) for _ in range(2))
    assert first.numbers[kind] == second.numbers[kind]
    assert torch.is_grad_enabled()
