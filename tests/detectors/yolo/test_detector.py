import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.scaling import Square
from lib.boxes.boxes import iou
from lib.detection.trace import describe, trace
from lib.detectors.dense import network as dense
from lib.detectors.yolo.detector import Detect, Detector
from lib.detectors.yolo.network import Grid, YoloHead, YoloLayers
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint
from tests.detectors.dense.models import CPU

DETECT = Detect(
    per_image=100, per_set=None, floor=0.001, nms=0.5, nms_before=None, most=None, precision="float32",
)
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
LAYERS = YoloLayers(stride=16, convolutions=[{"width": 8, "stride": 1}], groups=4, fc=None, dropout=0.5)


@pytest.fixture(scope="module", params=[None, 12])
def model(request, tmp_path_factory):
    """The file of a network of lively outputs, and the network."""
    torch.manual_seed(0)
    backbone = centre(backbones.build("resnet18"))
    head = YoloHead(256, 64, LAYERS.model_copy(update={"fc": request.param}), Grid(cells=4, boxes=2), 3)
    with torch.no_grad():
        head.last.weight.mul_(4)
        head.last.bias.add_(0.3)
    path = tmp_path_factory.mktemp("yolo") / "model.pt"
    checkpoint.save(path, dense.contents(backbone, ["a", "b", "c"], Square(side=64), head))
    return path, dense.DenseNetwork(backbone, head).eval()


def detector(model, **changes):
    return Detector({"model": model[0]}, DETECT.model_copy(update=changes), CPU, Clock())


def plainly(network, image):
    """Boxes and scores, cell by cell and predictor by predictor, by the network as it was trained."""
    view = Square(side=64).view(image.shape[1], image.shape[0])
    with torch.no_grad():
        classes, confidences, boxes = (
            value[0].numpy() for value in network(dense.to_batch([view.image(image)], network.recipe, CPU)))
    rows = []
    for cell in range(16):
        for predictor in range(2):
            x, y, w, h = boxes[cell, predictor]
            cx, cy = (cell % 4 + x) / 4 * image.shape[1], (cell // 4 + y) / 4 * image.shape[0]
            half = w * w * image.shape[1] / 2, h * h * image.shape[0] / 2
            scores = [max(confidences[cell, predictor], 0) * max(value, 0) for value in classes[cell]]
            rows.append((cell, predictor, (cx - half[0], cy - half[1], cx + half[0], cy + half[1]), scores))
    return rows


@pytest.mark.parametrize("floor", [0.001, 0.05])
def test_boxes_scores_and_where_they_come_from(model, floor):
    """Facts §7: every box and class whose score is above, as the products of clamped outputs."""
    tested = detector(model, floor=floor)
    boxes, scores, refine, origin, _ = tested(tested.prepare(IMAGE))
    expected = [row for row in plainly(model[1], IMAGE) if max(row[3]) > floor]
    assert (tested.classes, tested.wants_proposals) == (["a", "b", "c"], False)
    assert 5 < len(expected) < 32
    assert origin["cell"].tolist() == [row[0] for row in expected]
    assert origin["predictor"].tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(boxes, [row[2] for row in expected], rtol=1e-3, atol=0.05)
    wanted = np.array([row[3] for row in expected])
    np.testing.assert_allclose(scores, np.where(wanted > floor, wanted, -np.inf), atol=1e-4)
    rows = np.arange(len(boxes))
    assert refine(rows, rows % 3, boxes) is boxes


def test_no_score_at_all(model):
    tested = detector(model, floor=1e6)
    boxes, scores, _, origin, _ = tested(tested.prepare(IMAGE))
    assert (boxes.shape, scores.shape, origin["cell"].shape) == ((0, 4), (0, 3), (0,))


def test_scores_that_are_nan_are_refused(model):
    tested = detector(model)
    with torch.no_grad():
        tested.head.last.bias.fill_(torch.nan)
    with pytest.raises(InputError, match="scores: 96 of 96 are nan"):
        tested(tested.prepare(IMAGE))


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_tiny_and_thin_images(model, size):
    tested = detector(model, floor=None)
    assert np.isfinite(tested(tested.prepare(np.zeros((*size, 3), np.uint8))).boxes).all()


def test_a_trace_names_cell_and_predictor(model):
    tested = detector(model)
    scored = tested(tested.prepare(IMAGE))
    plain = describe(trace(scored, (160, 90), DETECT), tested.classes, 5)
    assert len(plain["detections"]) == 5
    for detection in plain["detections"]:
        row = detection["region"]
        assert {name: detection[name] for name in scored.origin} == {
            name: values[row] for name, values in scored.origin.items()}
        assert "level" not in detection


def test_case_139_two_unlike_images_have_unlike_boxes(model):
    tested = detector(model, floor=None)
    first, second = (tested(tested.prepare(image)).boxes for image in (IMAGE, 255 - IMAGE))
    assert np.diag(iou(first, second)).min() < 0.99
