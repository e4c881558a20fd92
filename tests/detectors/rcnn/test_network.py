import numpy as np
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device, pick_device
from lib.detectors.rcnn import detector as detector_module
from lib.detectors.rcnn import network as rcnn
from lib.detectors.rcnn import training
from lib.images.warp import Crops
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint
from lib.training.windows import Windows

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]


def files(folder):
    """The roles of its models, as dvc.yaml gives them."""
    return {"model": folder / "cnn.pt", "scores": folder / "svm.pt", "boxes": folder / "boxes.pt"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with an R-CNN of random weights, SVMs and regressors."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    crop = rcnn.Crop(side=64, context=16, shape="warp", pool5_grid=1)
    network = rcnn.RcnnNetwork(backbones.build("resnet18"), CLASSES, crop)
    checkpoint.save(folder / "cnn.pt", rcnn.describe(network))
    random = np.random.default_rng(0)
    weights = random.normal(size=(3, 512)).astype(np.float32)
    trained = np.array([True, False, True])
    linear.save_classifiers(
        folder / "svm.pt", CLASSES, "fc7", 0.5, weights, np.float32([1, 2, 3]), trained, ["dog: no object"]
    )
    moves = BoxRegressors(
        np.zeros((3, 512, 4), np.float32),
        np.float32([[0.1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, np.log(2)]]),
        np.array([5, 0, 5]),
    )
    linear.save_regressors(folder / "boxes.pt", CLASSES, "pool5", 0.25, moves)
    return folder


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


BOXES = np.array([[10, 10, 60, 60], [0, 0, 160, 120], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90]], np.float32)


def test_fresh_classifier_as_in_the_authors_prototxt():
    torch.manual_seed(0)
    network = rcnn.RcnnNetwork(
        backbones.build("resnet18"), CLASSES, rcnn.Crop(side=64, context=16, shape="warp", pool5_grid=6)
    )
    assert network.classifier.out_features == 4
    assert network.classifier.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not network.classifier.bias.any()


def test_padding_is_exactly_the_mean(models):
    network = rcnn.load(models / "cnn.pt")
    crops = network.cut(np.full((50, 50, 3), 200, np.uint8), np.float32([[0, 0, 30, 30]]))
    inputs = network.prepare(crops, CPU)
    left, top = crops.covered[0, :2]
    assert left > 0
    assert (inputs[0, :, :top] == 0).all()
    assert (inputs[0, :, :, :left] == 0).all()
    assert (inputs[0, :, top:, left:] != 0).all()


def test_features_do_not_depend_on_the_batch_and_equal_the_plain_network(models, image):
    rows = []
    for batch in (1, 2, 64):
        extractor = rcnn.Extractor(models / "cnn.pt", CPU, batch)
        rows.append(extractor.features(extractor.prepare(image, BOXES)))
    network = rcnn.load(models / "cnn.pt")
    with torch.no_grad():
        pool5, fc7, logits = network(network.prepare(network.cut(image, BOXES), CPU))
    for found in rows:
        np.testing.assert_allclose(found["pool5"], pool5.numpy(), atol=2e-4)
        np.testing.assert_allclose(found["fc7"], fc7.numpy(), atol=2e-4)
        np.testing.assert_allclose(found["probabilities"], logits.softmax(1).numpy(), atol=1e-5)
    assert extractor.widths == {"pool5": 512, "fc7": 512}


def detect(scores, regress):
    return detector_module.Detect(
        scores=scores,
        regress=regress,
        batch=64,
        precision="float32",
        per_image=100,
        per_set=None,
        floor=None,
        nms=0.3,
        nms_before=None,
        most=None,
    )


def test_svm_scores_and_regressors_by_hand(models, image):
    detector = detector_module.Detector(files(models), detect("svm", True), CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(image, BOXES))[:3]
    extractor = rcnn.Extractor(models / "cnn.pt", CPU, 64)
    rows = extractor.features(extractor.prepare(image, BOXES))
    weights = np.random.default_rng(0).normal(size=(3, 512)).astype(np.float32)
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_allclose(scores[:, 0], rows["fc7"] * 0.5 @ weights[0] + 1, rtol=1e-3, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()
    moved = refine(np.array([0, 1, 4]), np.array([0, 1, 2]), BOXES[[0, 1, 4]])
    np.testing.assert_allclose(moved, [[15, 10, 65, 60], [0, 0, 160, 120], [40, -15, 80, 125]], atol=1e-3)


def test_softmax_scores_drop_the_background(models, image):
    detector = detector_module.Detector(files(models), detect("softmax", False), CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(image, BOXES))[:3]
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
        detector_module.Detector(files(tmp_path), detect("svm", False), CPU, Clock())


def test_loss_is_the_mean_over_the_batch_in_parts(models):
    network = rcnn.load(models / "cnn.pt")
    random = np.random.default_rng(0)
    crops = Crops(random.integers(0, 256, (6, 64, 64, 3), np.uint8), np.tile([0, 0, 64, 64], (6, 1)))
    windows = Windows(np.zeros(6, np.int32), np.zeros((6, 4), np.float32), np.int16([0, 0, 1, 2, 3, 0]))
    with torch.no_grad():
        whole = torch.nn.functional.cross_entropy(
            network(network.prepare(crops, CPU))[2], torch.tensor([0, 0, 1, 2, 3, 0])
        )
        parts = [
            training.losses(network, Crops(crops.pixels[rows], crops.covered[rows]), windows[rows], 6, CPU)[
                "classification"
            ]
            for rows in (slice(0, None, 2), slice(1, None, 2))
        ]
    assert sum(parts).item() == pytest.approx(whole.item(), abs=1e-5)


def test_devices():
    assert pick_device("cpu", "auto", training=True).dtype == torch.float32
    assert pick_device("auto", "float32").dtype == torch.float32
    with pytest.raises(InputError, match="float16"):
        pick_device("cpu", "float16")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"is 'cuda', and torch finds no GPU.*compute.device: auto"):
            pick_device("cuda", "auto")
