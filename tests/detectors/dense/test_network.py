import numpy as np
import pytest
import torch

from lib.backbones import backbones, model_file
from lib.backbones.backbones import IMAGENET, LITE
from lib.backbones.scaling import Scale, Square
from lib.boxes.anchors import AnchorGrid, Level
from lib.detectors.dense import network as dense
from lib.detectors.dense.network import DenseNetwork, Form, check_strides, restored_form, to_batch
from lib.detectors.retinanet.network import restore as restore_retinanet
from lib.detectors.ssd.network import restore as restore_ssd
from lib.stage.errors import InputError
from lib.storage import checkpoint
from tests.detectors.dense.models import CLASSES, CPU, METHODS, network_parts, settings

RESTORE = {"ssd": restore_ssd, "retinanet": restore_retinanet}
SIZES = {"ssd": [(96, 96)], "retinanet": [(96, 96), (200, 97), (61, 130)]}


def test_images_of_several_sizes_are_one_batch_padded_with_the_mean():
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (*size, 3), np.uint8) for size in ((5, 7), (6, 4))]
    for recipe in (IMAGENET, LITE):
        batch = to_batch(images, recipe, CPU)
        assert batch.shape == (2, 3, 6, 7)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        for pixels, row in zip(images, batch, strict=True):
            height, width = pixels.shape[:2]
            expected = ((pixels - recipe.mean) / recipe.std).transpose(2, 0, 1)
            np.testing.assert_allclose(row[:, :height, :width], expected, atol=1e-5)
            assert row[:, height:].abs().sum() == row[:, :, width:].abs().sum() == 0
    same = to_batch([images[0], images[0][:, ::-1].copy()], LITE, CPU)
    torch.testing.assert_close(same[1], same[0].flip(-1))


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_the_anchors_in_their_order(method):
    """The heads' last layers are made to tell level, cell and anchor: each output stands at its anchor's row."""
    backbone, head = network_parts(method, settings(method))
    network = DenseNetwork(backbone, head).eval()
    for width, height in SIZES[method]:
        with torch.no_grad():
            scores, deltas, sizes = network(torch.randn(2, 3, height, width))
        assert sizes == head.sizes(width, height)
        count = len(head.anchors(width, height))
        assert scores.shape == (2, count, head.form.outputs)
        assert deltas.shape == (2, count, 4)
    maps = torch.arange(2.0 * 3 * 4).view(1, 1, 4, 6)  # 4 x 6 cells, each with its number
    layer = torch.nn.Conv2d(1, 3 * 2, 1)  # 3 anchors of 2 values
    with torch.no_grad():
        layer.weight[:] = 1
        layer.bias[:] = torch.arange(6) * 1000.0
        values = dense.predict(layer, maps, 2)[0]
    for cell in range(24):
        for anchor in range(3):
            assert values[cell * 3 + anchor].tolist() == [cell + 2000 * anchor, cell + 2000 * anchor + 1000]


def test_probabilities():
    grid = AnchorGrid([Level(8, np.float32([[0, 0, 8, 8]]))])
    scores = torch.tensor([0.0, np.log(3), np.log(2)])
    assert Form(grid, 2, True).probabilities(scores).tolist() == pytest.approx([3 / 6, 2 / 6])
    assert Form(grid, 3, False).probabilities(scores).tolist() == pytest.approx([1 / 2, 3 / 4, 2 / 3])
    assert (Form(grid, 2, True).outputs, Form(grid, 2, False).outputs) == (3, 2)


def test_a_form_there_and_back(tmp_path):
    grid = AnchorGrid([Level(8, np.float32([[0.1, 0, 8, 8]])), Level(100.5, np.float32([[0, 0, 8, 9], [1, 2, 3, 4]]))])
    form = Form(grid, 5, True, (0.1, 0.2))
    checkpoint.save(tmp_path / "x.pt", {"form": form.describe()})
    other = restored_form(checkpoint.load(tmp_path / "x.pt", "form")["form"])
    assert (other.classes, other.background, other.variances) == (5, True, (0.1, 0.2))
    np.testing.assert_array_equal(other.grid([(2, 3), (1, 1)]), grid([(2, 3), (1, 1)]))
    np.testing.assert_array_equal(form.scaling, np.float32([0.1, 0.1, 0.2, 0.2]))


def saved(folder, method):
    block = settings(method)
    backbone, head = network_parts(method, block)
    checkpoint.save(folder / "model.pt", dense.contents(backbone, CLASSES, block.scale, head))
    return DenseNetwork(backbone, head).eval()


@pytest.mark.parametrize("method", METHODS)
def test_a_file_keeps_every_layer_the_anchors_and_the_scale(tmp_path, method):
    """Cases 116 and 134: outputs bit for bit, anchors of the training."""
    network, images = saved(tmp_path, method), torch.randn(1, 3, 96, 96)
    other, model = dense.load(tmp_path / "model.pt", RESTORE[method])
    assert model.classes == CLASSES
    assert model.scale == (Square(side=96) if method == "ssd" else Scale(short_side=[96], max_side=200))
    with torch.no_grad():
        for value, same in zip(network(images)[:2], other(images)[:2], strict=True):
            assert torch.equal(value, same)
    assert len({id(value) for value in network.parameters()}) == len(list(other.parameters()))
    np.testing.assert_array_equal(network.head.anchors(96, 96), other.head.anchors(96, 96))
    assert "deepest" in model_file.read(tmp_path / "model.pt", "head").sections


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", ["renamed", "reshaped"])
def test_a_tensor_that_does_not_fit_is_named(tmp_path, method, change):
    """Case 134: layers that do not fit are no silent loss."""
    saved(tmp_path, method)
    contents = checkpoint.load(tmp_path / "model.pt", "head")
    tensors = contents["head"]["tensors"]
    name = next(name for name in tensors if name.startswith("scores"))
    value = tensors.pop(name)
    tensors |= {f"{name}x": value} if change == "renamed" else {name: value[:-1]}
    checkpoint.save(tmp_path / "model.pt", contents)
    with pytest.raises(InputError, match=rf"model.pt.*{name}.*dvc repro"):
        dense.load(tmp_path / "model.pt", RESTORE[method])


@pytest.mark.parametrize("strides", [[], [8, 64], [16, 8], [8, 8]])
def test_strides_that_the_trunk_lacks(strides):
    with pytest.raises(InputError, match=r"a.strides: is .*\[4, 8, 16, 32\], ascending"):
        check_strides(backbones.build("resnet18"), strides, "a.strides")


@pytest.mark.parametrize(("method", "other"), [("ssd", "retinanet"), ("retinanet", "ssd")])
def test_the_file_of_another_method_is_refused(tmp_path, method, other):
    """Case 134: an error that names the file, not a traceback."""
    saved(tmp_path, method)
    with pytest.raises(InputError, match=r"model.pt.*the tensors of its layers"):
        dense.load(tmp_path / "model.pt", RESTORE[other])
