"""The networks that all methods start from, cut at the same points.

A backbone is three parts: `trunk` (image or crop -> stride-16 map, shared by SPPnet, Fast and Faster R-CNN),
`crop_map` (trunk map of a crop -> the last map before pooling: R-CNN's pool5) and `crop_fc` (that map -> fc7).
One-stage methods take the maps of several strides: the last of a stride in the trunk, at 32 what `deepest` makes.

N crops or images, S side of a crop in pixels, D features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lib.backbones.frozen import FrozenNorm, freeze_norms
from lib.backbones.levels import DEEPEST, Levels
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
        mean, std = _on_channels(self.mean, images.device), _on_channels(self.std, images.device)
        return images.to(torch.float32).sub_(mean).div_(std)


@cache
def _on_channels(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """float32 (1, 3, 1, 1), made once for each device: a GPU would be waited for each time."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, 3, 1, 1)


IMAGENET = Recipe((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
LITE = Recipe((127.0, 127.0, 127.0), (128.0, 128.0, 128.0))


class Backbone(FrozenNorm):
    """One of `NAMES`, with or without ImageNet weights.

    name, recipe;  stride : image pixels per cell of the trunk map;  channels : of the trunk map
    first        : pixel, half-open, on which the centre of the trunk map's first cell lies (see `centring`): the middle
                   of pixel 0, and with vgg16, whose four poolings are of even kernel, 7.5 pixels further
    grid         : cells a side into which detectors pool a region
    fc7_features : length of an fc7 row
    level_channels : channels of the map of each stride that the backbone has, ascending:

        efficientnet_lite0  2: 16, 4: 24, 8: 40, 16: 112, 32: 320 (the last blocks, 5 and 6)
        alexnet             4: 64, 8: 192, 16: 256, 32: 256 (pool5; the others after their ReLU, before the pooling)
        vgg16               1: 64, 2: 128, 4: 256, 8: 512 (conv4_3), 16: 512 (conv5_3), 32: 512 (pool5)
        resnet18, resnet50  4: 64 or 256, 8: 128 or 512, 16: 256 or 1024, 32: 512 or 2048 (layer4)
    """

    stride = 16

    def __init__(
        self, name: str, recipe: Recipe, trunk: nn.Sequential, crop_map: nn.Module, crop_fc: nn.Module,
        channels: int, grid: int, fc7_features: int, levels: Mapping[int, tuple[int, int]],
    ) -> None:
        """levels : stride -> parts of the trunk up to its map, and the map's channels; 32: `deepest` comes after."""
        super().__init__()
        self.name, self.recipe = name, recipe
        self.first = 8.0 if name == "vgg16" else 0.5
        self.trunk = trunk  # before the other two: `weights` relies on the order of registration
        self.crop_map = crop_map
        self.crop_fc = crop_fc
        self.channels, self.grid = channels, grid
        self.fc7_features = fc7_features
        self._ends = {stride: end for stride, (end, _) in levels.items()}
        self.level_channels = {stride: count for stride, (_, count) in levels.items()}

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (N, 3, S, S) normalised -> (last map (N, C, h, w), fc7 (N, D) after ReLU where there is one)."""
        last = self.crop_map(self.trunk(crops))
        return last, self.crop_fc(last)

    @property
    def deepest(self) -> nn.Module:
        """The layers from the trunk's map to that of stride 32: `crop_map`, less the pooling to a fixed size."""
        fixed = isinstance(self.crop_map, nn.Sequential) and isinstance(self.crop_map[-1], nn.AdaptiveAvgPool2d)
        return self.crop_map.get_submodule("0") if fixed else self.crop_map

    def levels(self, strides: Sequence[int]) -> Levels:
        """A module that gives the maps of these strides and runs nothing behind the last; it shares our layers.

        Raises ValueError for a stride that is not in `level_channels`.
        """
        unknown = [stride for stride in strides if stride not in self.level_channels]
        if unknown or not strides:
            raise ValueError(f"strides {list(strides)}: {self.name} has maps of {list(self.level_channels)}")
        parts, done = {}, 0
        for stride in sorted(set(strides)):
            layers = list(self.trunk)[done : self._ends[stride]]
            parts[stride] = nn.Sequential(*layers, *([self.deepest] if stride == DEEPEST else []))
            done = self._ends[stride]
        return Levels(parts)

    def maps(self, images: Tensor, strides: Sequence[int]) -> dict[int, Tensor]:
        """float32 (N, 3, H, W) normalised -> stride -> map (N, C, h, w), C as in `level_channels`. See `levels`."""
        maps: dict[int, Tensor] = self.levels(strides)(images)
        return maps

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
    levels = {2: (2, 16), 4: (3, 24), 8: (4, 40), 16: (6, 112), 32: (6, 320)}
    return Backbone(name, LITE, trunk, nn.Sequential(*list(net.blocks)[5:]), head, 112, 7, 1280, levels)


def _alexnet(name: str) -> Backbone:
    import torchvision

    net = torchvision.models.alexnet()
    pool5 = nn.Sequential(net.features[12], net.avgpool)
    levels = {4: (2, 64), 8: (5, 192), 16: (12, 256), 32: (12, 256)}
    return Backbone(name, IMAGENET, net.features[:12], pool5, _to_fc7(net.classifier), 256, 6, 4096, levels)


def _vgg16(name: str) -> Backbone:
    import torchvision

    net = torchvision.models.vgg16()
    pool5 = nn.Sequential(net.features[30], net.avgpool)
    levels = {1: (4, 64), 2: (9, 128), 4: (16, 256), 8: (23, 512), 16: (30, 512), 32: (30, 512)}
    return Backbone(name, IMAGENET, net.features[:30], pool5, _to_fc7(net.classifier), 512, 7, 4096, levels)


def _to_fc7(classifier: nn.Sequential) -> nn.Sequential:
    """fc6 and fc7 on a map, each followed by its ReLU and a dropout of 0.5, as in Caffe's networks; torchvision's
    AlexNet has its dropout before them."""
    fc6, fc7 = [layer for layer in classifier if isinstance(layer, nn.Linear)][:2]
    return nn.Sequential(nn.Flatten(), fc6, nn.ReLU(True), nn.Dropout(), fc7, nn.ReLU(True), nn.Dropout())


def _resnet(name: str) -> Backbone:
    import torchvision

    net = getattr(torchvision.models, name)()
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    width = net.fc.in_features
    trunk = nn.Sequential(stem, net.layer1, net.layer2, net.layer3)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    levels = {4: (2, width // 8), 8: (3, width // 4), 16: (4, width // 2), 32: (4, width)}
    return Backbone(name, IMAGENET, trunk, net.layer4, head, width // 2, 14, width, levels)


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
