import numpy as np
import pandas as pd
import pytest
import torch

from lib.backbones import backbones, scaling
from lib.backbones.inference import for_inference
from lib.detectors.spp import network as spp_network
from lib.detectors.spp.network import SppLayers
from lib.pooling import map_store
from lib.pooling.pyramid import compute_map, scaled
from lib.pooling.roi import pool_whole
from lib.stage.errors import InputError
from lib.storage import tables
from tests.detectors.spp.models_on_disk import BOXES, CPU, IMAGE, SCALES, make_network, write


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def store(models, tmp_path_factory):
    """The maps of one image and its mirror at both scales, as the stage writes them."""
    folder, network = tmp_path_factory.mktemp("maps"), spp_network.load(models / "cnn.pt")
    table = pd.DataFrame({"image_id": ["a.jpg"], "width": [160], "height": [120]})
    layout = map_store.layout(network.backbone.trunk, table, SCALES)
    trunk = for_inference(network.backbone.trunk, CPU)
    for variant in map_store.variants(SCALES, mirrored=True):
        writer = map_store.writer(folder, layout, variant, 256, 2**20)
        assert writer.todo == ["a.jpg"]
        pixels = np.ascontiguousarray(IMAGE[:, ::-1]) if variant.mirrored else IMAGE
        values = compute_map(trunk, scaled(pixels, variant.scale), network.backbone.recipe, CPU).values
        writer.append({map_store.NAME: values.reshape(-1, 256)})
        writer.close()
    tables.write(folder / "maps.parquet", layout, map_store.MAPS)
    return folder


def test_network_round_trip_and_fresh_softmax(models):
    network, again = make_network(), spp_network.load(models / "cnn.pt")
    for tensor, loaded in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(tensor, loaded)
    assert (again.scales, again.window, again.layers) == (network.scales, network.window, network.layers)
    assert again.head.classifier.out_features == 4
    assert not again.head.classifier.bias.any()
    torch.manual_seed(0)
    wide = spp_network.SppHead(50, SppLayers(levels=[1], fc=2000, dropout=0), 21)
    assert wide.classifier.weight.std().item() == pytest.approx(0.01, rel=0.03)


def test_dropout_is_a_layer_only_where_it_is_set():
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
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert any(name.startswith("backbone.trunk.3") for name in trained)
    assert not any(name.startswith("backbone.crop") for name in trained)


def test_features_of_the_store_equal_those_of_the_image(models, store):
    with_maps = spp_network.Extractor(models / "cnn.pt", CPU, 2, store)
    without = spp_network.Extractor(models / "cnn.pt", CPU, 256)
    recalled = with_maps.features(with_maps.recall("a.jpg", (160, 120), BOXES))
    computed = without.features(without.prepare(IMAGE, BOXES))
    assert recalled["pool5"].shape == (5, with_maps.widths["pool5"]) == (5, 1280)
    assert recalled["fc7"].shape == (5, with_maps.widths["fc7"]) == (5, 32)
    np.testing.assert_array_equal(recalled["pool5"], computed["pool5"])
    for name in ("fc7", "probabilities"):
        np.testing.assert_allclose(recalled[name], computed[name], rtol=1e-4, atol=1e-5)


class OneImage:
    """The part of an `ImageSet` that the features of its regions need."""

    ids = ("a.jpg",)

    def regions(self, image_id, proposals):
        return BOXES

    def size(self, image_id):
        return 160, 120


@pytest.mark.parametrize("layer", ["pool5", "fc7"])
def test_regressors_pool_from_the_maps_what_extract_would_have_stored(models, store, layer):
    """A part of the regions, out of order: bit for bit the half-precision rows of `Extractor.features`."""
    features = spp_network.TrainingFeatures(store, models / "cnn.pt", OneImage(), None)
    extractor = spp_network.Extractor(models / "cnn.pt", CPU, 256, store)
    rows = extractor.features(extractor.recall("a.jpg", (160, 120), BOXES))[layer]
    assert features.width(layer) == rows.shape[1]
    wanted = np.array([3, 0, 4])
    read = features.read(layer, "a.jpg", wanted)
    assert read.dtype == np.float32
    if layer == "pool5":
        np.testing.assert_array_equal(read, rows[wanted].astype(np.float16))
    else:
        np.testing.assert_allclose(read, rows[wanted].astype(np.float16), rtol=1e-2, atol=1e-3)
    assert len(np.unique(read, axis=0)) > 1
    assert features.read(layer, "a.jpg", wanted[:0]).shape == (0, rows.shape[1])


def test_features_of_the_whole_image_are_those_of_the_plain_network(models):
    """One scale, one window over everything: trunk, pyramid and fc layers in torch alone give the same."""
    network = make_network(scales=[96])
    whole = BOXES[:1]
    extractor = spp_network.Extractor(models / "cnn.pt", CPU, 256)
    extractor._scales = [96]
    rows = extractor.features(extractor.prepare(IMAGE, whole))
    inputs = scaling.to_input(scaling.resize(IMAGE, 96 / 120), network.backbone.recipe, CPU)
    with torch.no_grad():
        pooled = pool_whole(network.eval().backbone.trunk(inputs), [1, 2])
        fc7, logits = network.head(pooled)
    np.testing.assert_allclose(rows["pool5"], pooled.numpy(), rtol=5e-3, atol=1e-3)
    np.testing.assert_allclose(rows["fc7"], fc7.numpy(), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(rows["probabilities"], logits.softmax(1).numpy(), atol=1e-2)


def test_image_without_regions(models):
    extractor = spp_network.Extractor(models / "cnn.pt", CPU, 256)
    rows = extractor.features(extractor.prepare(IMAGE, np.zeros((0, 4), np.float32)))
    assert [rows[name].shape for name in ("pool5", "fc7", "probabilities")] == [(0, 1280), (0, 32), (0, 4)]


def test_store_keeps_mirrored_maps_apart(models, store):
    maps, network = map_store.MapStore(store), spp_network.load(models / "cnn.pt")
    assert maps.scales == SCALES
    assert maps.mirrored
    assert "a.jpg" in maps
    assert "b.jpg" not in maps
    trunk = for_inference(network.backbone.trunk, CPU)
    mirrored = compute_map(
        trunk, scaled(np.ascontiguousarray(IMAGE[:, ::-1]), 128), network.backbone.recipe, CPU
    )
    stored = maps.map("a.jpg", 128, mirrored=True)
    np.testing.assert_array_equal(stored.values, mirrored.values)
    assert (stored.x, stored.y) == (mirrored.x, mirrored.y)
    assert not np.array_equal(stored.values, maps.map("a.jpg", 128).values)


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
