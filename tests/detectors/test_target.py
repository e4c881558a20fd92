"""Each `Explainer` explains the score that the `Detector` gives, of the region that it looks at."""

from itertools import product

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from lib.backbones import backbones
from lib.backbones.centring import centre
from lib.backbones.scaling import Scale, Square
from lib.boxes.boxes import clip
from lib.detectors.dense import network as dense
from lib.detectors.dense.explain import level_grid, matching
from lib.detectors.fast import detector as fast_detector
from lib.detectors.fast import explain as fast
from lib.detectors.faster import explain as faster
from lib.detectors.rcnn import detector as rcnn_detector
from lib.detectors.rcnn import explain as rcnn
from lib.detectors.retinanet import detector as retinanet_detector
from lib.detectors.retinanet import explain as retinanet
from lib.detectors.ssd import detector as ssd_detector
from lib.detectors.ssd import explain as ssd
from lib.detectors.target import linear, svm, with_layer
from lib.detectors.yolo import detector as yolo_detector
from lib.detectors.yolo import explain as yolo
from lib.detectors.yolo.network import Grid, YoloHead, YoloLayers
from lib.images.warp import place
from lib.parallel.clock import Clock
from lib.storage import checkpoint
from lib.visualization.cam import grad_cam, hires_cam
from lib.visualization.fields import fields
from lib.visualization.gradients import gradient, ruled
from tests.detectors.dense import models as dense_models
from tests.detectors.fast import models_on_disk as fast_models
from tests.detectors.rcnn import models_on_disk as rcnn_models

DENSE = {
    "ssd": (ssd, ssd_detector), "retinanet": (retinanet, retinanet_detector), "yolo": (yolo, yolo_detector),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8)
SELECTION = {"per_image": 100, "per_set": None, "floor": None, "nms": 0.3, "nms_before": None, "most": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models")
    fast_models.write(path)
    (path / "rcnn").mkdir()
    rcnn_models.write(path / "rcnn")
    backbones.save_m0(path / "lite.pt", backbones.build("efficientnet_lite0"))
    backbones.save_m0(path / "resnet.pt", backbones.build("resnet18"))
    for paper in DENSE:
        checkpoint.save(path / f"{paper}.pt", one_stage(paper))
    return path


def one_stage(paper):
    """The contents of a model file whose scores and boxes differ from place to place."""
    if paper == "yolo":
        torch.manual_seed(0)
        layers = YoloLayers(stride=16, convolutions=[{"width": 8, "stride": 1}], groups=4, fc=None, dropout=0.5)
        backbone, head = centre(backbones.build("resnet18")), YoloHead(256, 64, layers, Grid(cells=4, boxes=2), 2)
        last, scale = [head.last], Square(side=64)
    else:
        backbone, head = dense_models.network_parts(paper, dense_models.settings(paper))
        last, scale = [head.scores], Scale(short_side=[72], max_side=200)
        if paper == "ssd":
            last, scale = list(head.scores), Square(side=96)
    with torch.no_grad():
        for layer in last:
            layer.weight.mul_({"yolo": 4, "ssd": 1, "retinanet": 50}[paper])
            layer.bias.fill_(0.3 if paper == "yolo" else 0)
    return dense.contents(backbone, dense_models.CLASSES, scale, head)


def explainer_of(folder, paper):
    return DENSE[paper][0].Explainer({"model": folder / f"{paper}.pt"}, False, dense_models.CPU)


def scored(folder, paper):
    """Every box of the image as the detector says it, in the network's order."""
    more = {} if paper == "yolo" else {"per_level": None}
    detector = DENSE[paper][1]
    settings = detector.Detect(**{**SELECTION, "floor": -1.0 if paper == "yolo" else None, **more}, precision="float32")
    detector = detector.Detector({"model": folder / f"{paper}.pt"}, settings, dense_models.CPU, Clock())
    return detector(detector.prepare(IMAGE))


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


@pytest.mark.parametrize("paper", DENSE)
def test_one_stage_detectors(folder, paper):
    """Of each level the best box of each class: what the detector says of it is what is explained."""
    boxes, scores, refine, origin, _ = scored(folder, paper)
    explainer, levels = explainer_of(folder, paper), origin.get("level", np.zeros(len(boxes)))
    everything = clip(refine(np.arange(len(boxes)), np.zeros(len(boxes)), boxes), 160, 90)
    network, model = dense.load(folder / f"{paper}.pt", DENSE[paper][1].restore)
    with torch.no_grad():
        outputs = network(dense.to_batch([model.scale.view(160, 90).image(IMAGE)], network.recipe, dense_models.CPU))
    np.testing.assert_allclose(network.head.scores_of(outputs)[0].numpy(), scores, rtol=1e-3, atol=1e-3)
    logits = scores if paper == "yolo" else outputs.scores[0, :, -2:].numpy()
    explained = set()
    for level, label in product(np.unique(levels), range(2)):
        row = int(np.where(levels == level, scores[:, label], -1).argmax())
        if matching(everything, scores[:, label], everything[row]) == row:  # else NMS would leave another one
            target = explainer(IMAGE, everything[row], label)
            np.testing.assert_allclose(target.box, everything[row], atol=0.05)
            assert score(target) == pytest.approx(logits[row, label], rel=1e-3, abs=1e-3)
            explained.add(level)
    assert len(explained) == len(np.unique(levels))


@pytest.mark.parametrize("paper", DENSE)
def test_no_box_is_near(folder, paper):
    """Case 151: the best candidate is explained."""
    boxes, scores, refine, *_ = scored(folder, paper)
    best = int(scores[:, 1].argmax())
    target = explainer_of(folder, paper)(IMAGE, np.float32([30, 30, 30, 30]), 1)
    expected = clip(refine(np.array([best]), np.array([1]), boxes[[best]]), 160, 90)
    np.testing.assert_allclose(target.box, expected[0], atol=0.05)


def test_where_nothing_speaks_for_a_cell_its_map_is_empty(folder, tmp_path):
    """Two negative outputs of YOLO's make no positive score."""
    contents = one_stage("yolo")
    contents["head"]["tensors"]["last.bias"].fill_(-1000)
    checkpoint.save(tmp_path / "yolo.pt", contents)
    target = explainer_of(tmp_path, "yolo")(IMAGE, np.float32([10, 10, 60, 60]), 1)
    assert score(target) == 0
    assert not gradient(target).any()


def test_the_box_that_nms_left():
    boxes = np.float32([[0, 0, 100, 100], [0, 0, 95, 100], [0, 0, 60, 100], [200, 200, 210, 210]])
    scores = np.float32([0.5, 0.6, 0.7, 0.8])
    assert matching(boxes, scores, np.float32([0, 0, 100, 100])) == 1  # an IoU of 0.95 is near, one of 0.6 is not
    assert matching(boxes, scores, np.float32([0, 0, 50, 100])) == 2
    assert matching(boxes, scores, np.float32([400, 400, 410, 410])) == 3


@pytest.mark.parametrize(("paper", "strides"), [("ssd", [8, 16, 32, 64]), ("retinanet", [8, 16, 32, 64])])
def test_the_cells_of_each_level_lie_where_its_stride_says(folder, paper, strides):
    """In the pyramid too, where what comes from above shifts the fields of all but one of several cells."""
    network = explainer_of(folder, paper)(IMAGE, np.float32([10, 10, 60, 60]), 0).network
    for level, stride in enumerate(strides):
        rows = fields(network, level_grid(level), (96, 96)).rows
        assert (rows.stride, rows.first) == (stride, 0.5)
        assert level_grid(level) is level_grid(level)  # measured once


@pytest.mark.parametrize("paper", DENSE)
def test_units_of_one_stage_detectors(folder, paper):
    """A channel's mean over the region of the trunk's map, torchvision's; the same place of M0's."""
    explainer, regions = explainer_of(folder, paper), np.float32([[10, 10, 60, 60], [100, 50, 159, 90]])
    after = explainer.units(IMAGE, regions)
    network, model = dense.load(folder / f"{paper}.pt", DENSE[paper][1].restore)
    view = model.scale.view(160, 90)
    rois = torch.from_numpy(np.hstack([np.zeros((2, 1), np.float32), view.boxes(regions) + 7.5]).astype(np.float32))
    with torch.no_grad():
        maps = model.backbone.trunk(dense.to_batch([view.image(IMAGE)], network.recipe, dense_models.CPU))
        expected = roi_align(maps, rois, 1, 1 / 16, 4, aligned=True)
    torch.testing.assert_close(after.pooled, expected, rtol=1e-3, atol=1e-3)
    earlier = explainer.before(folder / "resnet.pt")
    assert not torch.allclose(earlier.units(IMAGE, regions).pooled, after.pooled)
    assert not torch.equal(earlier.filters, explainer.filters)
    assert torch.equal(explainer.units(IMAGE, regions).pooled, after.pooled)  # `before` left it alone


def test_a_crop_shows_its_window(folder):
    """What lies at the middle of the crop is the middle of the region; the window reaches beyond the image."""
    explainer = rcnn.Explainer(rcnn_models.files(folder / "rcnn"), True, rcnn_models.CPU)
    box = rcnn_models.BOXES[1]  # the whole image: the context lies outside
    target = explainer(rcnn_models.IMAGE, box, 0)
    assert (target.window[:2] < 0).all()
    assert (target.window[2:] > [160, 120]).all()
    placement = place(box[None], 160, 120, 64, 16)
    np.testing.assert_allclose(target.to_input(placement.source.astype(np.float32)), placement.covered, atol=1e-3)


@pytest.mark.parametrize("paper", ["rcnn", "fast", *DENSE])
def test_gradients_reach_the_pixels(folder, paper):
    if paper in DENSE:
        explainer, image = explainer_of(folder, paper), IMAGE
    elif paper == "rcnn":
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
    step[place] = 0.001
    change = target(target.network, target.inputs + step) - target(target.network, target.inputs - step)
    assert change.item() / 0.002 == pytest.approx(slopes[place].item(), rel=0.05)
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
    assert explainer.before(folder / "lite.pt")(fast_models.IMAGE, boxes[0], 0).network.scores is after.network.scores
    assert fields(after.network, after.maps, after.sides).rows.first == 0.5


def test_units_of_crops(folder):
    explainer = rcnn.Explainer(rcnn_models.files(folder / "rcnn"), True, rcnn_models.CPU)
    after = explainer.units(rcnn_models.IMAGE, rcnn_models.BOXES[:3])
    assert after.pooled.shape == (3, 512, 1, 1)
    before = explainer.before(folder / "resnet.pt").units(rcnn_models.IMAGE, rcnn_models.BOXES[:3])
    assert not torch.allclose(before.pooled, after.pooled)
    assert torch.equal(explainer.units(rcnn_models.IMAGE, rcnn_models.BOXES[:3]).pooled, after.pooled)  # left alone
    assert explainer.filters.shape == (64, 3, 7, 7)


def test_svms_as_a_layer(folder):
    layer, scores = svm(folder / "svm.pt", fast_models.CLASSES)
    assert (layer, scores.weight.shape) == ("fc7", (2, 16))
    rows = torch.randn(3, 16)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32))
    torch.testing.assert_close(scores(rows), rows * 0.5 @ weights.T + torch.tensor([1.0, 2.0]))
    assert linear(torch.zeros(2, 3), torch.ones(2))(torch.randn(1, 3)).tolist() == [[1, 1]]


def test_another_layer_in_the_place_of_one():
    network, other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.nn.Linear(2, 3)
    changed = with_layer(network, "0", other)
    assert list(changed) == [other, network[1]]
    assert network[0] is not other
    assert not any(value.requires_grad for value in changed.parameters())
