import copy

import numpy as np
import pytest
import torch
from torch import nn

from lib.backbones import backbones, model_file
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale, resize, to_input
from lib.boxes.coding import decode
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.detectors.faster import detector as detector_module
from lib.detectors.faster import network as faster
from lib.detectors.faster.rpn import RPN, Anchors, Proposing, RpnLayers
from lib.parallel.clock import Clock
from lib.stage.errors import InputError

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]
SCALE = Scale(short_side=[150], max_side=400)
REGIONS = Proposing(pre_nms=500, post_nms=40, nms=0.7, min_size=8.0)
DETECT = detector_module.Detect(
    per_image=100,
    per_set=None,
    floor=0.05,
    nms=0.3,
    nms_before=None,
    most=None,
    regress=True,
    batch=16,
    precision="float32",
)


def parts(seed):
    torch.manual_seed(seed)
    backbone = backbones.build("efficientnet_lite0")
    anchors = Anchors(scales=[32.0, 64.0], ratios=[0.5, 1.0, 2.0], base=16.0, centre=8.0)
    rpn = RPN(backbone.channels, RpnLayers(width=16, score="softmax"), anchors, 16)
    head = DetectionHead(*region_layers(backbone, 16, 0.0), len(CLASSES))
    for module in (rpn.scores, rpn.deltas, head.score, head.box):
        nn.init.normal_(module.weight, std=0.1)
    head.set_statistics(torch.full((4, 4), 0.01), torch.full((4, 4), 0.1))
    return backbone, rpn, head


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Models of the four steps with random weights: M2's trunk in M3 and M4, M3's proposer in M4."""
    folder = tmp_path_factory.mktemp("faster")
    first, second = parts(0), parts(1)
    third = (second[0], parts(2)[1], parts(3)[2])
    heads = [fast.describe_head(head, 16, 0.0) for head in (second[2], third[2])]
    model_file.save(folder / "m1.pt", first[0], CLASSES, SCALE, rpn=first[1].describe())
    model_file.save(folder / "m2.pt", second[0], CLASSES, SCALE, head=heads[0])
    model_file.save(folder / "m3.pt", second[0], CLASSES, SCALE, rpn=third[1].describe())
    m3 = model_file.read(folder / "m3.pt", "rpn")
    model_file.save(folder / "m4.pt", m3.backbone, CLASSES, SCALE, **m3.sections, head=heads[1])
    return folder


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def detector(*paths, regions=REGIONS, **changes):
    files = {"regions": paths[0], "model": paths[-1]}
    return detector_module.Detector(files, DETECT.model_copy(update=changes), regions, CPU, Clock())


def plainly(rpn_path, head_path, image):
    """The same by the networks as they were trained, batch norm not folded, step by step."""
    proposer = model_file.read(rpn_path, "rpn")
    network, model = fast.load(head_path)
    factor = 150 / 120
    scaled = resize(image, factor)
    rpn = faster.rpn_net.restore(proposer.sections["rpn"])
    with torch.no_grad():
        maps = proposer.backbone.trunk(to_input(scaled, proposer.backbone.recipe, CPU))
        logits, deltas = rpn(maps)
        anchors = torch.from_numpy(rpn.anchors([maps.shape[2:]]).copy())
        boxes, _ = faster.rpn_net.propose(anchors, logits, deltas, (scaled.shape[1], scaled.shape[0]), factor, REGIONS)
        rois = torch.cat([torch.zeros(len(boxes), 1), boxes], 1)
        scores, moves = network(to_input(scaled, network.recipe, CPU), rois)
        moves = network.head.deltas(moves).numpy()
    original = boxes.numpy() / factor
    return original, scores.softmax(1).numpy()[:, 1:], moves


@pytest.mark.parametrize(
    ("models", "shared"),
    [(("m4.pt",), True), (("m3.pt", "m4.pt"), True), (("m3.pt", "m2.pt"), True), (("m1.pt", "m2.pt"), False)],
)
def test_detections_equal_the_plain_networks_shared_or_not(files, image, models, shared):
    paths = [files / name for name in models]
    found = detector(*paths)
    assert found.shared == shared
    assert found.classes == CLASSES
    boxes, scores, refine = found(found.prepare(image))[:3]
    expected, probabilities, moves = plainly(paths[0], paths[-1], image)
    assert 5 < len(boxes) <= 40
    np.testing.assert_allclose(boxes, expected, atol=0.05)
    np.testing.assert_allclose(scores, probabilities, atol=2e-3)
    rows = np.arange(len(boxes))
    labels = rows % 3
    np.testing.assert_allclose(refine(rows, labels, boxes), decode(boxes, moves[rows, labels + 1]), atol=0.3)


def test_sharing_changes_nothing(files, image):
    shared, apart = detector(files / "m4.pt"), detector(files / "m4.pt")
    apart.shared = False
    one, other = shared(shared.prepare(image)), apart(apart.prepare(image))
    np.testing.assert_allclose(one[0], other[0], atol=1e-3)
    np.testing.assert_allclose(one[1], other[1], atol=1e-4)


def test_sharing_runs_the_trunk_once(files, image):
    for paths, passes in (([files / "m4.pt"], 1), ([files / "m1.pt", files / "m2.pt"], 2)):
        found, count = detector(*paths), []
        for network in (found._proposals.network, found._regions.network):
            network.trunk.register_forward_hook(lambda *_, count=count: count.append(1))
        found(found.prepare(image))
        assert len(count) == passes


def test_other_trunks_scales_and_recipes_are_not_shared(files, tmp_path):
    m3 = model_file.read(files / "m3.pt", "rpn")
    assert detector_module.same_trunk(m3, model_file.read(files / "m4.pt", "head"))
    assert not detector_module.same_trunk(m3, model_file.read(files / "m1.pt", "rpn"))
    for change in ("tensor", "scale"):
        other = copy.deepcopy(m3.backbone)
        if change == "tensor":
            next(other.trunk.buffers())[0] += 1e-6
        scale = SCALE.model_copy(update={"max_side": 300}) if change == "scale" else SCALE
        model_file.save(tmp_path / "x.pt", other, CLASSES, scale, rpn=m3.sections["rpn"])
        assert not detector_module.same_trunk(m3, model_file.read(tmp_path / "x.pt", "rpn"))


def test_proposals_lie_in_the_image_best_first_and_at_least_one(files, image):
    proposals = faster.ImageProposer(files / "m1.pt", CPU, Clock())
    boxes, scores = proposals(proposals.prepare(image), REGIONS)
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert (np.diff(scores) <= 0).all()
    assert (boxes >= 0).all()
    assert (boxes <= [160, 120, 160, 120]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 8 - 1e-3).all()
    none = REGIONS.model_copy(update={"min_size": 1000.0})
    boxes, scores = proposals(proposals.prepare(image), none)
    assert (boxes.tolist(), scores.tolist()) == ([[0, 0, 160, 120]], [0])


@pytest.mark.parametrize("models", [("m4.pt",), ("m1.pt", "m2.pt")])
def test_no_region_at_all_is_no_error(files, image, models):
    found = detector(*(files / name for name in models), regions=REGIONS.model_copy(update={"min_size": 1000.0}))
    boxes, scores, refine = found(found.prepare(image))[:3]
    assert scores.shape == (len(boxes), 3)
    rows = np.arange(len(boxes))
    assert refine(rows, rows, boxes).shape == boxes.shape


def test_without_regression_boxes_are_the_proposals(files, image):
    found = detector(files / "m4.pt", regress=False)
    boxes, _, refine = found(found.prepare(image))[:3]
    rows = np.arange(len(boxes))
    np.testing.assert_array_equal(refine(rows, rows % 3, boxes), boxes)


def test_the_batch_of_regions_changes_nothing(files, image):
    results = [
        found(found.prepare(image)) for found in (detector(files / "m4.pt", batch=size) for size in (1, 7, 1000))
    ]
    for one in results[1:]:
        np.testing.assert_allclose(one[1], results[0][1], atol=1e-5)


def test_threads_may_share_a_detector(files):
    from concurrent.futures import ThreadPoolExecutor

    random = np.random.default_rng(2)
    images = [random.integers(0, 256, (100 + 10 * (n % 3), 160, 3), np.uint8) for n in range(6)]
    found = detector(files / "m4.pt")
    alone = [found(found.prepare(one))[:2] for one in images]
    with ThreadPoolExecutor(3, initializer=lambda: torch.set_num_threads(1)) as pool:
        together = list(pool.map(lambda one: found(found.prepare(one))[:2], images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one[0], other[0], atol=1e-3)
        np.testing.assert_allclose(one[1], other[1], atol=1e-4)


def test_a_pyramid_or_a_file_without_proposer_is_refused(files, tmp_path):
    backbone, rpn, _ = parts(0)
    model_file.save(
        tmp_path / "p.pt", backbone, CLASSES, Scale(short_side=[100, 150], max_side=400), rpn=rpn.describe()
    )
    with pytest.raises(InputError, match="one size"):
        faster.ImageProposer(tmp_path / "p.pt", CPU, Clock())
    with pytest.raises(InputError, match="rpn"):
        faster.ImageProposer(files / "m2.pt", CPU, Clock())
