"""Each `Explainer` explains the score that the `Detector` gives, of the region that it looks at."""

import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.boxes.boxes import clip
from lib.detectors.fast import detector as fast_detector
from lib.detectors.fast import explain as fast
from lib.detectors.faster import explain as faster
from lib.detectors.rcnn import detector as rcnn_detector
from lib.detectors.rcnn import explain as rcnn
from lib.detectors.target import linear, svm
from lib.images.warp import place
from lib.parallel.clock import Clock
from lib.visualization.cam import grad_cam, hires_cam
from lib.visualization.fields import fields
from lib.visualization.gradients import gradient, ruled
from tests.detectors.fast import models_on_disk as fast_models
from tests.detectors.rcnn import models_on_disk as rcnn_models

SELECTION = {"per_image": 100, "per_set": None, "floor": None, "nms": 0.3, "nms_before": None, "most": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    fast_models.write(path)
    (path / "rcnn").mkdir()
    rcnn_models.write(path / "rcnn")
    backbones.save_m0(path / "lite.pt", backbones.build("efficientnet_lite0"))
    backbones.save_m0(path / "resnet.pt", backbones.build("resnet18"))
    return path


def score(target):
    return target(target.network, target.inputs).item()


@pytest.mark.parametrize("scores", ["svm", "softmax"])
def test_rcnn(folder, scores):
    files, boxes = rcnn_models.files(folder / "rcnn"), rcnn_models.BOXES[:3]
    settings = rcnn_detector.Detect(**SELECTION, scores=scores, regress=False, batch=8, precision="float32")
    detector = rcnn_detector.Detector(files, settings, rcnn_models.CPU, Clock())
    expected = detector(detector.prepare(rcnn_models.IMAGE, boxes)).scores
    explainer = rcnn.Explainer(files, scores == "svm", rcnn_models.CPU)
    for box, row in zip(boxes, expected, strict=True):
        logits = [score(explainer(rcnn_models.IMAGE, box, label)) for label in range(3)]
        if scores == "svm":
            np.testing.assert_allclose(np.array(logits)[[0, 2]], row[[0, 2]], rtol=1e-3, atol=1e-3)
        else:  # logits differ by the logs of the probabilities
            np.testing.assert_allclose(np.diff(logits), np.diff(np.log(row)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("model", "scores"), [("one", "softmax"), ("two", "softmax"), ("one", "svm"), ("align", "softmax")]
)
@pytest.mark.parametrize("module", [fast, faster])
def test_fast_and_faster(folder, model, scores, module):
    files = {"model": folder / f"{model}.pt", "scores": folder / ("svm.pt" if scores == "svm" else f"{model}.pt")}
    settings = fast_detector.Detect(**SELECTION, scores=scores, regress=False, batch=8, precision="float32")
    detector = fast_detector.Detector(files, settings, fast_models.CPU, Clock())
    boxes = fast_models.BOXES[:4]
    expected = detector(detector.prepare(fast_models.IMAGE, boxes)).scores
    explainer = module.Explainer(files, scores == "svm", fast_models.CPU)
    for box, row in zip(boxes, expected, strict=True):
        logits = [score(explainer(fast_models.IMAGE, box, label)) for label in range(2)]
        if scores == "svm":
            assert logits[0] == pytest.approx(row[0], rel=1e-3, abs=1e-3)
        else:
            np.testing.assert_allclose(np.diff(logits), np.diff(np.log(row)), rtol=1e-3, atol=1e-3)


def test_a_crop_shows_its_window(folder):
    """What lies at the middle of the crop is the middle of the region; the window reaches beyond the image."""
    explainer = rcnn.Explainer(rcnn_models.files(folder / "rcnn"), True, rcnn_models.CPU)
    box = rcnn_models.BOXES[1]  # the whole image: the context lies outside
    target = explainer(rcnn_models.IMAGE, box, 0)
    assert (target.window[:2] < 0).all()
    assert (target.window[2:] > [160, 120]).all()
    placement = place(box[None], 160, 120, 64, 16)
    np.testing.assert_allclose(target.to_input(placement.source.astype(np.float32)), placement.covered, atol=1e-3)


@pytest.mark.parametrize("paper", ["rcnn", "fast"])
def test_gradients_reach_the_pixels(folder, paper):
    if paper == "rcnn":
        explainer, image = rcnn.Explainer(rcnn_models.files(folder / "rcnn"), True, rcnn_models.CPU), rcnn_models.IMAGE
    else:
        files = {"model": folder / "one.pt", "scores": folder / "one.pt"}
        explainer, image = fast.Explainer(files, False, fast_models.CPU), fast_models.IMAGE
    target = explainer(image, np.float32([40, 20, 90, 90]), 0)
    slopes, guided = gradient(target), gradient(target, ruled(target.network, "guided"))
    assert slopes.abs().max() > 0
    assert not torch.allclose(slopes, guided)  # the ReLU6 of efficientnet_lite0 too
    place = tuple(int(index) for index in torch.unravel_index(slopes.abs().argmax(), slopes.shape))
    step = torch.zeros_like(target.inputs)
    step[place] = 0.01
    change = target(target.network, target.inputs + step) - target(target.network, target.inputs - step)
    assert change.item() / 0.02 == pytest.approx(slopes[place].item(), rel=0.05)
    assert grad_cam(target).shape == target.maps(target.network, target.inputs)[:, 0].shape


def test_hires_cam_is_zero_outside_of_the_region(folder):
    files = {"model": folder / "one.pt", "scores": folder / "one.pt"}
    target = fast.Explainer(files, False, fast_models.CPU)(fast_models.IMAGE, np.float32([100, 60, 158, 118]), 1)
    cells = hires_cam(target)[0]
    assert not cells[:, :4].any()  # at 0.8 of the image and stride 16, the region begins at cell 5


def test_units_before_and_after(folder):
    files = {"model": folder / "one.pt", "scores": folder / "one.pt"}
    explainer, boxes = fast.Explainer(files, False, fast_models.CPU), clip(fast_models.BOXES[:4], 160, 120)
    after, before = explainer.units(fast_models.IMAGE, boxes), explainer.before(folder / "lite.pt").units(
        fast_models.IMAGE, boxes
    )
    expected = fast_models.plain(folder / "one.pt", fast_models.IMAGE, boxes, 96)[0]
    np.testing.assert_allclose(after.pooled.detach().flatten(1).numpy(), expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(before.pooled, after.pooled)
    again = explainer.units(fast_models.IMAGE, boxes)
    assert torch.equal(again.pooled, after.pooled)  # `before` left it alone
    assert fields(after.network, after.maps, after.sides).rows.first == 0.5


def test_units_of_crops(folder):
    explainer = rcnn.Explainer(rcnn_models.files(folder / "rcnn"), True, rcnn_models.CPU)
    after = explainer.units(rcnn_models.IMAGE, rcnn_models.BOXES[:3])
    assert after.pooled.shape == (3, 512, 1, 1)
    before = explainer.before(folder / "resnet.pt").units(rcnn_models.IMAGE, rcnn_models.BOXES[:3])
    assert not torch.allclose(before.pooled, after.pooled)
    assert explainer.filters.shape == (64, 3, 7, 7)


def test_svms_as_a_layer(folder):
    layer, scores = svm(folder / "svm.pt", fast_models.CLASSES)
    assert (layer, scores.weight.shape) == ("fc7", (2, 16))
    rows = torch.randn(3, 16)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32))
    torch.testing.assert_close(scores(rows), rows * 0.5 @ weights.T + torch.tensor([1.0, 2.0]))
    assert linear(torch.zeros(2, 3), torch.ones(2))(torch.randn(1, 3)).tolist() == [[1, 1]]
