import numpy as np
import pytest

from lib.detectors.fast.explain import Explainer
from lib.visualization.attribution import heat, maps
from lib.visualization.fields import fields
from lib.visualization.looking import KINDS, looker
from tests.detectors.fast import models_on_disk


@pytest.mark.parametrize("detector", ["spp", "fake"])
def test_no_explainer_no_function(detector):
    assert looker(detector, {}, False, models_on_disk.CPU) is None


def test_maps_lie_on_the_images_pixels(tmp_path):
    """Seen at 0.8 of its size: the map of the input, whose largest value lies at 0.8 of where the image's does."""
    models_on_disk.write(tmp_path)
    files, box = {"model": tmp_path / "one.pt", "scores": tmp_path / "one.pt"}, models_on_disk.BOXES[4]
    made = looker("fast", files, False, models_on_disk.CPU)(models_on_disk.IMAGE, box, 1)
    assert list(made) == list(KINDS)
    assert {values.shape for values in made.values()} == {(120, 160)}
    target = Explainer(files, False, models_on_disk.CPU)(models_on_disk.IMAGE, box, 1)
    cells = fields(target.network, target.maps, (96, 128))
    own = heat(maps(target, cells, ["hires_cam"])["hires_cam"])
    places = [np.array(np.unravel_index(values.argmax(), values.shape)) + 0.5 for values in (own, made["hires_cam"])]
    np.testing.assert_allclose(places[0], places[1] * 0.8, atol=1.2)
