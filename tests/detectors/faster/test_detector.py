import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from lib.backbones import model_file
from lib.backbones.scaling import resize, to_input
from lib.boxes.coding import decode
from lib.detectors.fast import network as fast
from lib.detectors.faster import rpn as rpn_net
from lib.detectors.faster.detector import Detect, Detector, same_trunk
from lib.parallel.clock import Clock
from tests.detectors.faster.models_on_disk import CLASSES, CPU, IMAGE, REGIONS, SCALE, write

DETECT = Detect(
    per_image=100, per_set=None, floor=0.05, nms=0.3, nms_before=None, most=None, regress=True, batch=16,
    precision="float32",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faster")
    write(folder)
    return folder


def detector(*paths, regions=REGIONS, **changes):
    files = {"regions": paths[0], "model": paths[-1]}
    return Detector(files, DETECT.model_copy(update=changes), regions, CPU, Clock())


def plainly(rpn_path, head_path, image):
    """The same by the networks as they were trained, batch norm not folded, step by step."""
    proposer = model_file.read(rpn_path, "rpn")
    network, model = fast.load(head_path)
    factor = 150 / 120
    scaled = resize(image, factor)
    rpn = rpn_net.restore(proposer.sections["rpn"])
    with torch.no_grad():
        maps = proposer.backbone.trunk(to_input(scaled, proposer.backbone.recipe, CPU))
        logits, deltas = rpn(maps)
        anchors = torch.from_numpy(rpn.anchors([maps.shape[2:]]).copy())
        boxes, _ = rpn_net.propose(anchors, logits, deltas, (scaled.shape[1], scaled.shape[0]), factor, REGIONS, CPU)
        rois = torch.from_numpy(np.hstack([np.zeros((len(boxes), 1), np.float32), boxes]))
        scores, moves = network(to_input(scaled, network.recipe, CPU), rois)
        moves = network.head.deltas(moves).numpy()
    original = boxes / factor
    return original, scores.softmax(1).numpy()[:, 1:], moves


@pytest.mark.parametrize(
    ("models", "shared"),
    [(("m4.pt",), True), (("m3.pt", "m4.pt"), True), (("m3.pt", "m2.pt"), True), (("m1.pt", "m2.pt"), False)],
)
def test_detections_equal_the_plain_networks_shared_or_not(files, models, shared):
    paths = [files / name for name in models]
    tested = detector(*paths)
    assert tested.shared == shared
    assert tested.classes == CLASSES
    boxes, scores, refine = tested(tested.prepare(IMAGE))[:3]
    expected, probabilities, moves = plainly(paths[0], paths[-1], IMAGE)
    assert 5 < len(boxes) <= 40
    np.testing.assert_allclose(boxes, expected, atol=0.05)
    np.testing.assert_allclose(scores, probabilities, atol=2e-3)
    rows = np.arange(len(boxes))
    labels = rows % 3
    np.testing.assert_allclose(refine(rows, labels, boxes), decode(boxes, moves[rows, labels + 1]), atol=0.3)


def test_sharing_changes_nothing(files):
    shared, apart = detector(files / "m4.pt"), detector(files / "m4.pt")
    apart.shared = False
    result, expected = shared(shared.prepare(IMAGE)), apart(apart.prepare(IMAGE))
    np.testing.assert_allclose(result[0], expected[0], atol=1e-3)
    np.testing.assert_allclose(result[1], expected[1], atol=1e-4)


def test_sharing_runs_the_trunk_once(files):
    for paths, passes in (([files / "m4.pt"], 1), ([files / "m1.pt", files / "m2.pt"], 2)):
        tested, count = detector(*paths), []
        for network in (tested._proposer.network, tested._scorer.network):
            network.trunk.register_forward_hook(lambda *_, count=count: count.append(1))
        tested(tested.prepare(IMAGE))
        assert len(count) == passes


def test_other_trunks_scales_and_recipes_are_not_shared(files, tmp_path):
    m3 = model_file.read(files / "m3.pt", "rpn")
    assert same_trunk(m3, model_file.read(files / "m4.pt", "head"))
    assert not same_trunk(m3, model_file.read(files / "m1.pt", "rpn"))
    for change in ("tensor", "scale"):
        other = copy.deepcopy(m3.backbone)
        if change == "tensor":
            next(other.trunk.buffers())[0] += 1e-6
        scale = SCALE.model_copy(update={"max_side": 300}) if change == "scale" else SCALE
        model_file.save(tmp_path / "x.pt", other, CLASSES, scale, rpn=m3.sections["rpn"])
        assert not same_trunk(m3, model_file.read(tmp_path / "x.pt", "rpn"))


@pytest.mark.parametrize("models", [("m4.pt",), ("m1.pt", "m2.pt")])
def test_no_region_at_all_is_no_error(files, models):
    tested = detector(*(files / name for name in models), regions=REGIONS.model_copy(update={"min_size": 1000.0}))
    boxes, scores, refine = tested(tested.prepare(IMAGE))[:3]
    assert scores.shape == (len(boxes), 3)
    rows = np.arange(len(boxes))
    assert refine(rows, rows, boxes).shape == boxes.shape


def test_without_regression_boxes_are_the_proposals(files):
    tested = detector(files / "m4.pt", regress=False)
    boxes, _, refine = tested(tested.prepare(IMAGE))[:3]
    rows = np.arange(len(boxes))
    np.testing.assert_array_equal(refine(rows, rows % 3, boxes), boxes)


def test_the_batch_of_regions_changes_nothing(files):
    detectors = [detector(files / "m4.pt", batch=size) for size in (1, 7, 1000)]
    results = [tested(tested.prepare(IMAGE)) for tested in detectors]
    for result in results[1:]:
        np.testing.assert_allclose(result[1], results[0][1], atol=1e-5)


def test_threads_may_share_a_detector(files):
    random = np.random.default_rng(2)
    images = [random.integers(0, 256, (100 + 10 * (n % 3), 160, 3), np.uint8) for n in range(6)]
    tested = detector(files / "m4.pt")
    alone = [tested(tested.prepare(image))[:2] for image in images]
    with ThreadPoolExecutor(3, initializer=lambda: torch.set_num_threads(1)) as threads:
        together = list(threads.map(lambda image: tested(tested.prepare(image))[:2], images))
    for expected, result in zip(alone, together, strict=True):
        np.testing.assert_allclose(result[0], expected[0], atol=1e-3)
        np.testing.assert_allclose(result[1], expected[1], atol=1e-4)
