"""The networks that all methods start from, cut at the same places.

A backbone is three parts: `trunk` (image or crop -> stride-16 map, shared by SPPnet, Fast and Faster R-CNN),
`crop_map` (trunk map of a crop -> the last map before pooling: R-CNN's pool5) and `crop_fc` (that map -> fc7).

N crops or images, S side of a crop in pixels, D features.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.backbones.frozen import FrozenNorm, freeze_norms
from lib.stage.errors import Fault, InputError
from lib.storage import checkpoint

NAMES = ("efficientnet_lite0", "alexnet", "vgg16", "resnet18", "resnet50")


@dataclass(frozen=True)
class Recipe:
    """How the weights want their input: channels in RGB order, ``(value - mean) / std``, values 0 to 255.

    Padding is the mean, which is exactly 0 after this.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 (N, 3, H, W) RGB -> float32 of the same shape and memory order."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return images.to(torch.float32).sub_(mean).div_(std)


IMAGENET = Recipe((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
LITE = Recipe((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


class Backbone(FrozenNorm):
    """One of `NAMES`, with or without ImageNet weights.

    name, recipe;  stride : image pixels per cell of the trunk map;  channels : of the trunk map
    grid         : cells a side into which detectors pool a region
    fc7_features : length of an fc7 row
    """

    stride = 16

    def __init__(
        self, name: str, recipe: Recipe, trunk: nn.Sequential, crop_map: nn.Module, crop_fc: nn.Module,
        channels: int, grid: int, fc7_features: int,
    ) -> None:
        super().__init__()
        self.name, self.recipe = name, recipe
        self.trunk, self.crop_map, self.crop_fc = trunk, crop_map, crop_fc
        self.channels, self.grid, self.fc7_features = channels, grid, fc7_features

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (N, 3, S, S) normalised crops -> (last map (N, C, h, w), fc7 (N, D) after ReLU where there is one)."""
        last = self.crop_map(self.trunk(crops))
        return last, self.crop_fc(last)

    def freeze(self, parts: int) -> None:
        """No gradients for the first `parts` children of the trunk, nor for any batch norm's scale and shift."""
        for part in list(self.trunk)[:parts]:
            part.requires_grad_(False)
        freeze_norms(self)


def build(name: str) -> Backbone:
    """The architecture with random weights. Raises InputError for a name that is not in `NAMES`."""
    if name not in NAMES:
        raise InputError([Fault("bad setting", "m0.backbone", f"is {name!r}", str(NAMES), "Choose one of these")])
    return _BUILDERS[name](name)


def _efficientnet_lite0(name: str) -> Backbone:
    import timm

    net: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    trunk = nn.Sequential(nn.Sequential(net.conv_stem, net.bn1), *list(net.blocks)[:5])
    head = nn.Sequential(net.conv_head, net.bn2, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(name, LITE, trunk, nn.Sequential(*list(net.blocks)[5:]), head, 112, 7, 1280)


def _alexnet(name: str) -> Backbone:
    import torchvision

    net = torchvision.models.alexnet()
    pool = nn.Sequential(net.features[12], net.avgpool)
    return Backbone(name, IMAGENET, net.features[:12], pool, _to_fc7(net.classifier), 256, 6, 4096)


def _vgg16(name: str) -> Backbone:
    import torchvision

    net = torchvision.models.vgg16()
    pool = nn.Sequential(net.features[30], net.avgpool)
    return Backbone(name, IMAGENET, net.features[:30], pool, _to_fc7(net.classifier), 512, 7, 4096)


def _to_fc7(classifier: nn.Sequential) -> nn.Sequential:
    """fc6 and fc7, fed by a map, each with its ReLU and half of it dropped after, as in Caffe's networks: torchvision's
    AlexNet drops before them."""
    fc6, fc7, _ = (layer for layer in classifier if isinstance(layer, nn.Linear))
    return nn.Sequential(nn.Flatten(), fc6, nn.ReLU(True), nn.Dropout(), fc7, nn.ReLU(True), nn.Dropout())


def _resnet(name: str) -> Backbone:
    import torchvision

    net = getattr(torchvision.models, name)()
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    width = net.fc.in_features
    trunk = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone(name, IMAGENET, trunk, net.layer4, head, width // 2, 14, width)


_BUILDERS: Mapping[str, Callable[[str], Backbone]] = {
    "efficientnet_lite0": _efficientnet_lite0,
    "alexnet": _alexnet,
    "vgg16": _vgg16,
    "resnet18": _resnet,
    "resnet50": _resnet,
}


def save_m0(path: Path, backbone: Backbone) -> None:
    """M0 as a file: the name, the tensors, the recipe."""
    checkpoint.save(path, describe(backbone))


def describe(backbone: Backbone) -> dict[str, Any]:
    """The part of any model file from which `restore` makes the backbone again."""
    recipe = {key: list(value) for key, value in asdict(backbone.recipe).items()}
    return {"backbone": backbone.name, "recipe": recipe, "tensors": backbone.state_dict()}


def restore(contents: Mapping[str, Any]) -> Backbone:
    """The backbone that `describe` described, its recipe taken from the file."""
    backbone = build(contents["backbone"])
    backbone.load_state_dict(contents["tensors"])
    backbone.recipe = Recipe(*(tuple(contents["recipe"][key]) for key in ("mean", "std")))
    return backbone


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """A copy for inference whose convolutions have taken in the batch norm registered right after them.

    The same function up to rounding, in fewer passes over memory. Works for timm's norm-plus-activation layers too.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()):
        children = list(module.named_children())
        for (conv_name, conv), (norm_name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, nn.utils.fusion.fuse_conv_bn_eval(conv, _plain(norm)))
                setattr(module, norm_name, getattr(norm, "act", nn.Identity()))
    return folded


def _plain(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps).eval()
    plain.load_state_dict(norm.state_dict())
    return plain
