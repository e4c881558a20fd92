import numpy as np
import pytest

from lib.detectors.rcnn import network as rcnn
from lib.detectors.rcnn.detector import Detect, Detector
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint
from tests.detectors.rcnn.models_on_disk import BOXES, CPU, IMAGE, files, write


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def detect(scores, regress):
    return Detect(
        scores=scores, regress=regress, batch=64, precision="float32",
        per_image=100, per_set=None, floor=None, nms=0.3, nms_before=None, most=None,
    )


def test_svm_scores_and_regressors_by_hand(models):
    detector = Detector(files(models), detect("svm", True), CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
    extractor = rcnn.Extractor(models / "cnn.pt", CPU, 64)
    rows = extractor.features(extractor.prepare(IMAGE, BOXES))
    weights = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_allclose(scores[:, 0], rows["fc7"] * 0.5 @ weights[0] + 1, rtol=1e-3, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()
    moved = refine(np.array([0, 1, 4]), np.array([0, 1, 2]), BOXES[[0, 1, 4]])
    np.testing.assert_allclose(moved, [[15, 10, 65, 60], [0, 0, 160, 120], [40, -15, 80, 125]], atol=1e-3)


def test_softmax_scores_drop_the_background(models):
    detector = Detector(files(models), detect("softmax", False), CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
    assert scores.shape == (5, 3)
    assert (scores.sum(1) < 1).all()
    assert refine(np.array([0]), np.array([0]), BOXES[:1]) is not None
    np.testing.assert_array_equal(refine(np.array([0]), np.array([0]), BOXES[:1]), BOXES[:1])


def test_models_of_other_classes_are_refused(models, tmp_path):
    network = rcnn.load(models / "cnn.pt")
    network.classes = ["cat", "cow", "fish"]
    checkpoint.save(tmp_path / "cnn.pt", rcnn.describe(network))
    (tmp_path / "svm.pt").write_bytes((models / "svm.pt").read_bytes())
    with pytest.raises(InputError, match=r"was trained for \['cat', 'dog', 'fish'\].*\['cat', 'cow', 'fish'\]"):
        Detector(files(tmp_path), detect("svm", False), CPU, Clock())
