import numpy as np

from lib.visualization.looking import KINDS, looker
from tests.visualization.targets import small


def test_no_explainer_no_function():
    assert looker(None) is None


def test_maps_lie_on_the_images_pixels():
    from dataclasses import replace

    target = small(window=(4, 4, 12, 12), box=(6, 6, 10, 10))
    target = replace(target, network=target.network.float(), inputs=target.inputs.float())
    made = looker(lambda image, box, label: target)(np.zeros((16, 20, 3), np.uint8), target.box, 0)
    assert list(made) == list(KINDS)
    for heat in made.values():
        assert heat.shape == (16, 20)
        outside = heat.copy()
        outside[4:12, 4:12] = 0
        assert not outside.any()
    assert made["gradient"].any()
