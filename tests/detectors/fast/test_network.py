import numpy as np
import pytest
import torch
from torchvision.ops import roi_pool

from lib.backbones import backbones, low_rank, model_file
from lib.backbones.device import Device
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale, factor, resize, to_input
from lib.boxes.coding import decode
from lib.detectors.fast import detector as detector_module
from lib.detectors.fast import network as fast
from lib.detectors.fast.network import DetectionHead
from lib.linear import files as linear
from lib.parallel.clock import Clock
from lib.stage.errors import InputError

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog"]
DETECT = detector_module.Detect(
    per_image=100,
    per_set=None,
    floor=None,
    nms=0.3,
    nms_before=None,
    most=None,
    scores="softmax",
    regress=True,
    batch=3,
    precision="float32",
)


def one_file(path):
    """A detector whose softmax scores."""
    return {"model": path, "scores": path}


BOXES = np.float32(
    [[10, 10, 60, 60], [0, 0, 160, 120], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90], [10, 10, 60.1, 60]]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Detectors of random weights at one scale, at two, and SVMs for their features."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    backbone = backbones.build("efficientnet_lite0").eval()
    layers, features = region_layers(backbone, 16, 0.0)
    head = DetectionHead(layers, features, len(CLASSES))
    head.set_statistics(torch.rand(3, 4) * 0.1, torch.rand(3, 4) + 0.1)
    torch.nn.init.normal_(head.score.weight, std=0.5)
    torch.nn.init.normal_(head.box.weight, std=0.1)
    for name, sides in (("one", [96]), ("two", [96, 288])):
        scale = Scale(short_side=sides, max_side=1000)
        model_file.save(folder / f"{name}.pt", backbone, CLASSES, scale, head=fast.describe_head(head, 16, 0.0))
    random = np.random.default_rng(0)
    weights, trained = random.normal(size=(2, 16)).astype(np.float32), np.array([True, False])
    linear.save_classifiers(folder / "svm.pt", CLASSES, "fc7", 0.5, weights, np.float32([1, 2]), trained, [])
    return folder


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


def plain(path, image, boxes, short):
    """The network on each region by itself, with torchvision's pooling: no folding, no batch, no sharing."""
    network, _ = fast.load(path)
    scale = factor(160, 120, short, 1000)
    with torch.no_grad():
        maps = network.trunk(to_input(resize(image, scale), network.recipe, CPU))
        rows = []
        for box in boxes * np.float32(scale):
            rois = torch.tensor([[0, box[0], box[1], box[2] - 1, box[3] - 1]])
            pooled = roi_pool(maps, rois, 7, 1 / 16)
            rows.append([pooled.flatten(1), network.head.layers(pooled), *network.head(pooled)])
        pooled, fc7, logits, deltas = (torch.cat(column) for column in zip(*rows, strict=True))
    return (
        pooled.numpy(),
        fc7.numpy(),
        logits.softmax(1).numpy(),
        (deltas * network.head.std + network.head.mean).numpy(),
    )


def test_scores_and_boxes_equal_the_plain_network_region_by_region(folder, image):
    _, _, probabilities, deltas = plain(folder / "one.pt", image, BOXES, 96)
    for batch in (1, 3, 100):
        detector = detector_module.Detector(
            one_file(folder / "one.pt"), DETECT.model_copy(update={"batch": batch}), CPU, Clock()
        )
        boxes, scores, refine = detector(detector.prepare(image, BOXES))[:3]
        np.testing.assert_array_equal(boxes, BOXES)
        np.testing.assert_allclose(scores, probabilities[:, 1:], atol=1e-4)
        rows, labels = np.array([0, 2, 4]), np.array([0, 1, 1])
        expected = decode(BOXES[rows], deltas[rows, labels + 1])
        np.testing.assert_allclose(refine(rows, labels, BOXES[rows]), expected, atol=0.05)
        assert np.abs(expected - BOXES[rows]).max() > 1


def test_each_region_at_the_level_nearest_to_224(folder, image):
    """160 x 120 at 96 and 288: factors 0.8 and 2.4. The whole image has 128 x 96 or 384 x 288 pixels: the first is
    nearer;
    for the other regions the second is."""
    detector = detector_module.Detector(one_file(folder / "two.pt"), DETECT, CPU, Clock())
    prepared = detector.prepare(image, BOXES)
    assert [one.shape[:2] for one in prepared.images] == [(96, 128), (288, 384)]
    scores = detector(prepared).scores
    expected = plain(folder / "one.pt", image, BOXES, 288)[2][:, 1:]
    expected[1] = plain(folder / "one.pt", image, BOXES, 96)[2][1, 1:]
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    small = np.delete(BOXES, 1, axis=0)
    assert [one.shape[:2] for one in detector.prepare(image, small).images] == [(288, 384)]


def test_regions_with_the_same_cells_are_computed_once_and_keep_their_own_box(folder, image):
    detector = detector_module.Detector(one_file(folder / "one.pt"), DETECT, CPU, Clock())
    prepared = detector.prepare(image, BOXES)
    assert sum(map(len, prepared.rois)) == 5
    boxes, scores, refine = detector(prepared)[:3]
    np.testing.assert_array_equal(scores[0], scores[5])
    rows, labels = np.array([0, 5]), np.array([0, 0])
    moved = refine(rows, labels, boxes[rows])
    assert moved[0, 2] < moved[1, 2]


def test_distinct_regions_pool_alike_exactly_when_their_cells_do():
    random = np.random.default_rng(0)
    corner = random.uniform(0, 200, (300, 2))
    boxes = np.hstack([corner, corner + random.uniform(0.5, 90, (300, 2))]).astype(np.float32)
    boxes[:40] = np.round(boxes[:40] / 8) * 8 + 1  # corners at exact halves of a cell
    boxes = np.concatenate([boxes, boxes[:100] + np.float32(0.7)])
    first, group = fast.distinct(boxes, 16)
    maps = torch.arange(20 * 20, dtype=torch.float32).view(1, 1, 20, 20)
    rois = torch.from_numpy(np.hstack([np.zeros((400, 1), np.float32), boxes - np.float32([0, 0, 1, 1])]))
    pooled = torch.cat([sign * roi_pool(sign * maps, rois, 7, 1 / 16) for sign in (1, -1)], 1).flatten(1).numpy()
    np.testing.assert_array_equal(pooled, pooled[first][group])
    assert len(first) < 400
    assert len(np.unique(pooled, axis=0)) == len(first)
    np.testing.assert_array_equal(first, np.sort(first))


def test_no_regions_and_regions_without_area(folder, image):
    """Cases 36 and 43: rows stay with their regions."""
    detector = detector_module.Detector(one_file(folder / "one.pt"), DETECT, CPU, Clock())
    scores = detector(detector.prepare(image, BOXES[:0])).scores
    assert scores.shape == (0, 2)
    odd = np.concatenate([np.float32([[20, 20, 20, 40], [300, 300, 400, 400]]), BOXES[:1]])
    boxes, scores = detector(detector.prepare(image, odd))[:2]
    assert np.isfinite(scores).all()
    assert boxes.max() <= 160
    alone = detector(detector.prepare(image, BOXES[:1])).scores
    np.testing.assert_allclose(scores[2:], alone, atol=1e-5)


def test_boxes_stay_without_regression(folder, image):
    detector = detector_module.Detector(
        one_file(folder / "one.pt"), DETECT.model_copy(update={"regress": False}), CPU, Clock()
    )
    boxes, _, refine = detector(detector.prepare(image, BOXES))[:3]
    np.testing.assert_array_equal(refine(np.array([1]), np.array([0]), boxes[1:2]), BOXES[1:2])


def test_features_and_svm_scores_by_hand(folder, image):
    extractor = fast.Extractor(folder / "one.pt", CPU, 4)
    rows = extractor.features(extractor.prepare(image, BOXES))
    _, fc7, probabilities, _ = plain(folder / "one.pt", image, BOXES, 96)
    np.testing.assert_allclose(rows["fc7"], fc7, atol=1e-3)
    np.testing.assert_allclose(rows["probabilities"], probabilities, atol=1e-4)
    assert extractor.widths == {"fc7": 16}
    models = {"model": folder / "one.pt", "scores": folder / "svm.pt"}
    detector = detector_module.Detector(models, DETECT.model_copy(update={"scores": "svm"}), CPU, Clock())
    scores = detector(detector.prepare(image, BOXES)).scores
    weights = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    np.testing.assert_allclose(scores[:, 0], fc7 * 0.5 @ weights[0] + 1, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()


def test_the_clock_names_the_parts(folder, image):
    clock = Clock()
    detector = detector_module.Detector(one_file(folder / "one.pt"), DETECT, CPU, clock)
    detector(detector.prepare(image, BOXES))
    assert set(clock.seconds) == {"resize", "trunk", "regions", "scores"}


def test_the_same_after_loading_whatever_the_dropout(folder, tmp_path):
    """Case 39: weights and statistics come back as they were, also when training goes on with another dropout."""
    network, model = fast.load(folder / "one.pt")
    again = fast.restore_head(backbones.build("efficientnet_lite0"), model.sections["head"], 2, dropout=0.5)
    assert sum(isinstance(layer, torch.nn.Dropout) for layer in again.modules()) == 2
    regions = torch.randn(4, 112, 7, 7)
    with torch.no_grad():
        for one, two in zip(again.eval()(regions), network.head(regions), strict=True):
            assert torch.equal(one, two)
    assert torch.equal(again.std, network.head.std)
    assert torch.equal(again.mean, network.head.mean)


def test_compressed_layers_come_back(folder, tmp_path, image):
    network, model = fast.load(folder / "one.pt")
    low_rank.compress(network.head.layers, [16, 16])
    section = fast.describe_head(network.head, 16, 0.0, [16, 16])
    model_file.save(tmp_path / "svd.pt", model.backbone, CLASSES, model.scale, head=section)
    found = []
    for path in (folder / "one.pt", tmp_path / "svd.pt"):
        detector = detector_module.Detector(one_file(path), DETECT, CPU, Clock())
        found.append(detector(detector.prepare(image, BOXES))[1])
    np.testing.assert_allclose(found[1], found[0], atol=1e-4)


def test_a_file_without_a_head_is_refused(folder, tmp_path):
    _, model = fast.load(folder / "one.pt")
    model_file.save(tmp_path / "rpn.pt", model.backbone, CLASSES, model.scale)
    with pytest.raises(InputError, match=r"has no \['head'\]"):
        detector_module.Detector(one_file(tmp_path / "rpn.pt"), DETECT, CPU, Clock())
