import numpy as np
import pytest

from lib.detectors.spp.detector import Detect, Detector
from lib.detectors.spp.network import Extractor
from lib.parallel.clock import Clock
from tests.detectors.spp.models_on_disk import BOXES, CPU, IMAGE, SCALES, write

SETTINGS = Detect(
    per_image=100, per_set=None, floor=-1.5, nms=0.3, nms_before=0.3, most=None, scores="svm", regress=True, batch=256,
    precision="float32",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def files(folder):
    """The roles of its models, as dvc.yaml gives them."""
    return {"model": folder / "cnn.pt", "scores": folder / "svm.pt", "boxes": folder / "boxes.pt"}


def test_detector_scores_with_the_svms_and_moves_with_the_regressors(models):
    clock = Clock()
    detector = Detector(files(models), SETTINGS, CPU, clock)
    boxes, scores, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
    np.testing.assert_array_equal(boxes, BOXES)
    rows = Extractor(models / "cnn.pt", CPU, 256).features(detector.prepare(IMAGE, BOXES))
    weights = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    np.testing.assert_allclose(scores[:, 0], rows["fc7"] * 0.5 @ weights[0] + 1, rtol=1e-3, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()
    moved = refine(np.array([1, 0]), np.array([0, 1]), BOXES[[1, 0]])
    np.testing.assert_allclose(moved, [[15, 10, 65, 60], [0, 0, 160, 120]], atol=1e-3)
    assert set(clock.seconds) == {"resize", "trunk", "regions", "scores"}


def test_softmax_without_regression_needs_one_file(models, tmp_path):
    (tmp_path / "cnn.pt").write_bytes((models / "cnn.pt").read_bytes())
    softmax = SETTINGS.model_copy(update={"scores": "softmax", "regress": False, "floor": None})
    detector = Detector(files(tmp_path), softmax, CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
    assert scores.shape == (5, 3)
    assert (scores.sum(1) < 1).all()
    np.testing.assert_array_equal(refine(np.array([0]), np.array([0]), BOXES[:1]), BOXES[:1])


def test_each_image_meets_the_trunk_once_per_scale(models):
    detector = Detector(files(models), SETTINGS, CPU, Clock())
    calls = []
    detector._extractor._trunk.register_forward_pre_hook(lambda module, inputs: calls.append(inputs[0].shape[2]))
    detector(detector.prepare(IMAGE, np.repeat(BOXES, 40, axis=0)))
    assert calls == SCALES
