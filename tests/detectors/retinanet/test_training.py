import pytest

from lib.stage.errors import InputError
from stages import train
from tests.detectors.dense.overfit import mean_average_precision
from tests.life import FakeLife
from tests.stages import network_stages


@pytest.mark.parametrize("strides", [[8, 32], [16, 8], [4, 16]])
def test_strides_that_do_not_double_are_refused_before_any_work(tmp_path, strides):
    network_stages.start(tmp_path, "resnet18")
    changes = {**network_stages.CHANGES, "retinanet.layers": {"strides": strides}}
    with pytest.raises(InputError, match=r"params.yaml: retinanet.layers.strides: is "):
        train.main(FakeLife(tmp_path, "retinanet", network_stages.values(changes)))
    assert not (tmp_path / "models/retinanet/detector.pt").exists()


def test_eight_images_are_learnt_by_heart(tmp_path):
    assert mean_average_precision(tmp_path, "retinanet", 80) >= 0.99
