import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.detectors.spp import detector as spp
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.network import SppLayers
from lib.linear import files as linear
from lib.linear.box_ridge import BoxRegressors
from lib.parallel.clock import Clock
from lib.pooling import map_store
from lib.pooling.pyramid import Window, compute_map
from lib.pooling.roi import pool_whole
from lib.stage.errors import InputError
from lib.storage import checkpoint, tables

CPU = Device(torch.device("cpu"), torch.float32)
CLASSES = ["cat", "dog", "fish"]
SCALES = [96, 128]
BOXES = np.array([[0, 0, 160, 120], [10, 10, 60, 60], [100, 50, 159, 119], [5, 5, 9, 9], [40, 20, 80, 90]], np.float32)
SETTINGS = spp.Detect(
    per_image=100,
    per_set=None,
    floor=-1.5,
    nms=0.3,
    nms_before=0.3,
    most=None,
    scores="svm",
    regress=True,
    batch=256,
    precision="float32",
)


def make_network(levels=(1, 2), scales=None):
    torch.manual_seed(0)
    classifier = spp_network.SppNetwork(
        backbones.build("resnet18"), SppLayers(levels=list(levels), fc=32, dropout=0), ["a", "b"]
    )
    window = Window(side=64, nearest="area", slack=1.5)
    return spp_network.for_detection(classifier, CLASSES, scales or SCALES, window)


def files(folder):
    """The roles of its models, as dvc.yaml gives them."""
    return {"model": folder / "cnn.pt", "scores": folder / "svm.pt", "boxes": folder / "boxes.pt"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with an SPPnet of random weights, SVMs and regressors."""
    folder = tmp_path_factory.mktemp("models")
    checkpoint.save(folder / "cnn.pt", spp_network.describe(make_network()))
    random = np.random.default_rng(0)
    weights, trained = random.normal(size=(3, 32)).astype(np.float32), np.array([True, False, True])
    linear.save_classifiers(
        folder / "svm.pt", CLASSES, "fc7", 0.5, weights, np.float32([1, 2, 3]), trained, ["dog: no object"]
    )
    moves = np.float32([[0.1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, np.log(2)]])
    fitted = BoxRegressors(np.zeros((3, 1280, 4), np.float32), moves, np.array([5, 0, 5]))
    linear.save_regressors(folder / "boxes.pt", CLASSES, "pool5", 0.25, fitted)
    return folder


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def store(models, image, tmp_path_factory):
    """The maps of one image and its mirror at both scales, as the stage writes them."""
    folder, network = tmp_path_factory.mktemp("maps"), spp_network.load(models / "cnn.pt")
    table = pd.DataFrame({"image_id": ["a.jpg"], "width": [160], "height": [120]})
    layout = map_store.layout(network.backbone.trunk, table, SCALES)
    trunk = spp_network.inference_trunk(network, CPU.torch_device)
    for form in map_store.variants(SCALES, mirrored=True):
        writer = map_store.writer(folder, layout, form, 256, 2**20)
        assert writer.todo == ["a.jpg"]
        seen = np.ascontiguousarray(image[:, ::-1]) if form.mirrored else image
        values = compute_map(trunk, seen, form.scale, network.backbone.recipe, CPU).values
        writer.append({map_store.NAME: values.reshape(-1, 256)})
        writer.close()
    tables.write(folder / "maps.parquet", layout, map_store.MAPS)
    return folder


def test_network_round_trip_and_fresh_softmax(models):
    network, again = make_network(), spp_network.load(models / "cnn.pt")
    for mine, read in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(mine, read)
    assert (again.scales, again.window, again.layers) == (network.scales, network.window, network.layers)
    assert again.head.classifier.out_features == 4
    assert not again.head.classifier.bias.any()
    torch.manual_seed(0)
    wide = spp_network.SppHead(50, SppLayers(levels=[1], fc=2000, dropout=0), 21)
    assert wide.classifier.weight.std().item() == pytest.approx(0.01, rel=0.03)


def test_dropout_is_a_layer_only_where_it_is_asked_for():
    def drops(share):
        head = spp_network.SppHead(10, SppLayers(levels=[1], fc=4, dropout=share), 2)
        return sum(isinstance(module, torch.nn.Dropout) for module in head.modules())

    assert (drops(0.0), drops(0.5)) == (0, 1)


def test_pretrained_fc_layers_are_taken_where_they_fit():
    torch.manual_seed(0)
    m0 = backbones.describe(backbones.build("alexnet"))
    plain = spp_network.from_m0(m0, SppLayers(levels=[6], fc=4096, dropout=0), ["x"])
    assert torch.equal(plain.head.fc6.weight, m0["tensors"]["crop_fc.1.weight"])
    assert torch.equal(plain.head.fc7.weight, m0["tensors"]["crop_fc.4.weight"])
    pyramid = spp_network.from_m0(m0, SppLayers(levels=[1, 2, 3, 6], fc=4096, dropout=0), ["x"])
    assert pyramid.head.fc6.in_features == 12800  # facts: 256 · 50
    assert torch.equal(pyramid.head.fc7.weight, m0["tensors"]["crop_fc.4.weight"])


def test_only_fc_layers_train_when_all_parts_are_frozen():
    network = make_network()
    network.freeze(None)
    assert {name.split(".")[0] for name, value in network.named_parameters() if value.requires_grad} == {"head"}
    network.backbone.requires_grad_(True)
    network.freeze(3)
    assert any(name.startswith("backbone.trunk.3") for name, value in network.named_parameters() if value.requires_grad)
    assert not any(
        name.startswith("backbone.crop") for name, value in network.named_parameters() if value.requires_grad
    )


def test_features_of_the_store_equal_those_of_the_image(models, image, store):
    with_maps, without = (
        spp_network.Extractor(models / "cnn.pt", CPU, 2, store),
        spp_network.Extractor(models / "cnn.pt", CPU, 256),
    )
    recalled = with_maps.features(with_maps.recall("a.jpg", (160, 120), BOXES))
    computed = without.features(without.prepare(image, BOXES))
    assert recalled["pool5"].shape == (5, with_maps.widths["pool5"]) == (5, 1280)
    assert recalled["fc7"].shape == (5, with_maps.widths["fc7"]) == (5, 32)
    np.testing.assert_array_equal(recalled["pool5"], computed["pool5"])
    for name in ("fc7", "probabilities"):
        np.testing.assert_allclose(recalled[name], computed[name], rtol=1e-4, atol=1e-5)


def test_features_of_the_whole_image_are_those_of_the_plain_network(models, image):
    """One scale, one window over everything: trunk, pyramid and fc layers in torch alone give the same."""
    network = make_network(scales=[96])
    whole = BOXES[:1]
    extractor = spp_network.Extractor(models / "cnn.pt", CPU, 256)
    extractor._scales = [96]
    rows = extractor.features(extractor.prepare(image, whole))
    from lib.backbones import scaling

    inputs = scaling.to_input(scaling.resize(image, 96 / 120), network.backbone.recipe, CPU)
    with torch.no_grad():
        pooled = pool_whole(network.eval().backbone.trunk(inputs), [1, 2])
        fc7, logits = network.head(pooled)
    np.testing.assert_allclose(rows["pool5"], pooled.numpy(), rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(rows["fc7"], fc7.numpy(), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(rows["probabilities"], logits.softmax(1).numpy(), atol=1e-2)


def test_image_without_regions(models, image):
    extractor = spp_network.Extractor(models / "cnn.pt", CPU, 256)
    rows = extractor.features(extractor.prepare(image, np.zeros((0, 4), np.float32)))
    assert [rows[name].shape for name in ("pool5", "fc7", "probabilities")] == [(0, 1280), (0, 32), (0, 4)]


def test_detector_scores_with_the_svms_and_moves_with_the_regressors(models, image):
    clock = Clock()
    detector = spp.Detector(files(models), SETTINGS, CPU, clock)
    boxes, scores, refine = detector(detector.prepare(image, BOXES))[:3]
    np.testing.assert_array_equal(boxes, BOXES)
    rows = spp_network.Extractor(models / "cnn.pt", CPU, 256).features(detector.prepare(image, BOXES))
    weights = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    np.testing.assert_allclose(scores[:, 0], rows["fc7"] * 0.5 @ weights[0] + 1, rtol=1e-3, atol=1e-3)
    assert np.isneginf(scores[:, 1]).all()
    moved = refine(np.array([1, 0]), np.array([0, 1]), BOXES[[1, 0]])
    np.testing.assert_allclose(moved, [[15, 10, 65, 60], [0, 0, 160, 120]], atol=1e-3)
    assert set(clock.seconds) == {"trunk", "regions", "scores"}


def test_softmax_without_regression_needs_one_file(models, image, tmp_path):
    (tmp_path / "cnn.pt").write_bytes((models / "cnn.pt").read_bytes())
    softmax = SETTINGS.model_copy(update={"scores": "softmax", "regress": False, "floor": None})
    detector = spp.Detector(files(tmp_path), softmax, CPU, Clock())
    boxes, scores, refine = detector(detector.prepare(image, BOXES))[:3]
    assert scores.shape == (5, 3)
    assert (scores.sum(1) < 1).all()
    np.testing.assert_array_equal(refine(np.array([0]), np.array([0]), BOXES[:1]), BOXES[:1])


def test_each_image_meets_the_trunk_once_per_scale(models, image):
    detector = spp.Detector(files(models), SETTINGS, CPU, Clock())
    calls = []
    detector._extractor._trunk.register_forward_pre_hook(lambda module, given: calls.append(given[0].shape[2]))
    detector(detector.prepare(image, np.repeat(BOXES, 40, axis=0)))
    assert calls == SCALES


def test_store_keeps_mirrored_maps_apart(models, image, store):
    maps, network = map_store.MapStore(store), spp_network.load(models / "cnn.pt")
    assert maps.scales == SCALES
    assert maps.mirrored
    assert "a.jpg" in maps
    assert "b.jpg" not in maps
    trunk = spp_network.inference_trunk(network, CPU.torch_device)
    mirrored = compute_map(trunk, np.ascontiguousarray(image[:, ::-1]), 128, network.backbone.recipe, CPU)
    found = maps.map("a.jpg", 128, mirrored=True)
    np.testing.assert_array_equal(found.values, mirrored.values)
    assert (found.x, found.y) == (mirrored.x, mirrored.y)
    assert not np.array_equal(found.values, maps.map("a.jpg", 128).values)


def test_mirroring_without_mirrored_maps_is_refused(models, tmp_path):
    network = spp_network.load(models / "cnn.pt")
    table = pd.DataFrame({"image_id": ["a.jpg"], "width": [32], "height": [32]})
    layout = map_store.layout(network.backbone.trunk, table, [32])
    writer = map_store.writer(tmp_path, layout, map_store.Variant(32, False), 256, 2**20)
    writer.append({map_store.NAME: np.zeros((4, 256), np.float16)})
    writer.close()
    tables.write(tmp_path / "maps.parquet", layout, map_store.MAPS)
    maps = map_store.MapStore(tmp_path)
    maps.require_mirrored(0)
    with pytest.raises(InputError, match=r"spp.finetune.mirror: is 0.5, but spp.maps.mirror is false"):
        maps.require_mirrored(0.5)
