import numpy as np
import pytest

from lib.backbones import low_rank, model_file
from lib.boxes.coding import decode
from lib.detectors.fast import network as fast
from lib.detectors.fast.detector import Detect, Detector
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from tests.detectors.fast.models_on_disk import BOXES, CLASSES, CPU, IMAGE, plain, write

SETTINGS = Detect(
    per_image=100, per_set=None, floor=None, nms=0.3, nms_before=None, most=None, scores="softmax", regress=True,
    batch=3, precision="float32",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


def softmax_detector(path, clock=None, **changes):
    """A detector whose scores are the softmax of its one file."""
    settings = SETTINGS.model_copy(update=changes)
    return Detector({"model": path, "scores": path}, settings, CPU, clock or Clock())


@pytest.mark.parametrize("name", ["one", "align"])
def test_scores_and_boxes_equal_the_plain_network_region_by_region(folder, name):
    _, _, probabilities, deltas = plain(folder / f"{name}.pt", IMAGE, BOXES, 96)
    for batch in (1, 3, 100):
        detector = softmax_detector(folder / f"{name}.pt", batch=batch)
        boxes, scores, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_allclose(scores, probabilities[:, 1:], atol=1e-4)
        rows, labels = np.array([0, 2, 4]), np.array([0, 1, 1])
        expected = decode(BOXES[rows], deltas[rows, labels + 1])
        np.testing.assert_allclose(refine(rows, labels, BOXES[rows]), expected, atol=0.05)
        assert np.abs(expected - BOXES[rows]).max() > 1


def test_each_region_at_the_level_nearest_to_224(folder):
    """160 x 120 at 96 and 288: factors 0.8 and 2.4. The whole image has 128 x 96 or 384 x 288 pixels: the first is
    nearer; for the other regions the second is."""
    detector = softmax_detector(folder / "two.pt")
    prepared = detector.prepare(IMAGE, BOXES)
    assert [pixels.shape[:2] for pixels in prepared.images] == [(96, 128), (288, 384)]
    scores = detector(prepared).scores
    expected = plain(folder / "one.pt", IMAGE, BOXES, 288)[2][:, 1:]
    expected[1] = plain(folder / "one.pt", IMAGE, BOXES, 96)[2][1, 1:]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    small = np.delete(BOXES, 1, axis=0)
    assert [pixels.shape[:2] for pixels in detector.prepare(IMAGE, small).images] == [(288, 384)]


def test_regions_with_the_same_cells_are_computed_once_and_keep_their_own_box(folder):
    detector = softmax_detector(folder / "one.pt")
    prepared = detector.prepare(IMAGE, BOXES)
    assert sum(map(len, prepared.rois)) == 5
    boxes, scores, refine = detector(prepared)[:3]
    np.testing.assert_array_equal(scores[0], scores[5])
    rows, labels = np.array([0, 5]), np.array([0, 0])
    moved = refine(rows, labels, boxes[rows])
    assert moved[0, 2] < moved[1, 2]


def test_no_regions_and_regions_without_area(folder):
    """Cases 36 and 43: rows stay with their regions."""
    detector = softmax_detector(folder / "one.pt")
    scores = detector(detector.prepare(IMAGE, BOXES[:0])).scores
    assert scores.shape == (0, 2)
    odd = np.concatenate([np.float32([[20, 20, 20, 40], [300, 300, 400, 400]]), BOXES[:1]])
    boxes, scores = detector(detector.prepare(IMAGE, odd))[:2]
    assert np.isfinite(scores).all()
    assert boxes.max() <= 160
    alone = detector(detector.prepare(IMAGE, BOXES[:1])).scores
    np.testing.assert_allclose(scores[2:], alone, atol=1e-5)


def test_boxes_stay_without_regression(folder):
    detector = softmax_detector(folder / "one.pt", regress=False)
    boxes, _, refine = detector(detector.prepare(IMAGE, BOXES))[:3]
    np.testing.assert_array_equal(refine(np.array([1]), np.array([0]), boxes[1:2]), BOXES[1:2])


def test_svm_scores_by_hand(folder):
    _, fc7, _, _ = plain(folder / "one.pt", IMAGE, BOXES, 96)
    models = {"model": folder / "one.pt", "scores": folder / "svm.pt"}
    detector = Detector(models, SETTINGS.model_copy(update={"scores": "svm"}), CPU, Clock())
    scores = detector(detector.prepare(IMAGE, BOXES)).scores
    weights = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    np.testing.assert_allclose(scores[:, 0], fc7 * 0.5 @ weights[0] + 1, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()


def test_the_clock_names_the_parts(folder):
    clock = Clock()
    detector = softmax_detector(folder / "one.pt", clock)
    detector(detector.prepare(IMAGE, BOXES))
    assert set(clock.seconds) == {"resize", "trunk", "regions", "scores"}


def test_compressed_layers_come_back(folder, tmp_path):
    network, model = fast.load(folder / "one.pt")
    low_rank.compress(network.head.layers, [16, 16])
    section = fast.describe_head(network.head, 16, 0.0, [16, 16])
    model_file.save(tmp_path / "svd.pt", model.backbone, CLASSES, model.scale, head=section)
    scores = []
    for path in (folder / "one.pt", tmp_path / "svd.pt"):
        detector = softmax_detector(path)
        scores.append(detector(detector.prepare(IMAGE, BOXES))[1])
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-4)


def test_a_file_without_a_head_is_refused(folder, tmp_path):
    _, model = fast.load(folder / "one.pt")
    model_file.save(tmp_path / "rpn.pt", model.backbone, CLASSES, model.scale)
    with pytest.raises(InputError, match=r"has no \['head'\]"):
        softmax_detector(tmp_path / "rpn.pt")
