"""SPPnet's network (He et al. 2014): a trunk, pyramid pooling, and fc layers that take its rows.

R regions, C classes without background, D pooled features, F features of fc7.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from lib.backbones import backbones
from lib.pooling.pyramid import Window
from lib.pooling.roi import pool_whole
from lib.stage.params import Settings
from lib.storage import checkpoint


class Layers(Settings):
    """Block `spp.layers`.

    levels  : n of each pyramid level, pooled into n x n bins and joined in this order (paper §4.1: 1, 2, 3, 6: 50 bins)
    fc      : width of fc6 and fc7 (paper: 4096)
    dropout : share dropped after fc6 and fc7 in training (authors: 0.5); at 0 there is no such layer
    """

    levels: list[int] = Field(min_length=1)
    fc: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class Head(nn.Module):
    """fc6 and fc7 with their ReLU, and a classifier.

    features : D;  outputs : of the classifier, Gaussian weights of deviation 0.01 and bias 0 (paper §4.1; the authors'
    prototxt starts the bias at 1 for every class alike, which is the same softmax)
    """

    def __init__(self, features: int, layers: Layers, outputs: int) -> None:
        super().__init__()
        self.fc6, self.fc7 = nn.Linear(features, layers.fc), nn.Linear(layers.fc, layers.fc)
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self._drop: nn.Module = nn.Dropout(layers.dropout) if layers.dropout else nn.Identity()
        self.renew(outputs)

    def renew(self, outputs: int) -> None:
        """A fresh classifier."""
        self.classifier = nn.Linear(self.fc7.out_features, outputs)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (R, D) pooled rows -> fc7 (R, F) after its ReLU, logits (R, outputs). R may be 0."""
        fc7 = self._drop(self.fc7(self._drop(self.fc6(pooled).relu())).relu())
        return fc7, self.classifier(fc7)


class Network(nn.Module):
    """The whole network.

    classes : of the classifier, behind background (index 0) once it is fine-tuned;  windows : None until then, the scales and
    the window rule that the fc layers were fine-tuned for
    """

    def __init__(
        self, backbone: backbones.Backbone, layers: Layers, classes: list[str], scales: list[int] | None = None,
        window: Window | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.layers, self.classes, self.scales, self.window = backbone, layers, classes, scales, window
        features = backbone.channels * sum(n * n for n in layers.levels)
        self.head = Head(features, layers, len(classes) + (scales is not None))

    def pooled(self, inputs: Tensor) -> Tensor:
        """float32 (N, 3, S, S) normalised images -> rows (N, D) of their whole maps."""
        return pool_whole(self.backbone.trunk(inputs), self.layers.levels)

    def freeze(self, parts: int | None) -> None:
        """Leaves only the fc layers and the trunk behind its first `parts` parts to train; None: no part of the trunk.

        What the backbone has behind its trunk is no part of this network.
        """
        self.backbone.freeze(len(self.backbone.trunk) if parts is None else parts)
        for rest in (self.backbone.crop_map, self.backbone.crop_fc):
            rest.requires_grad_(False)


def from_m0(contents: dict[str, Any], layers: Layers, classes: list[str]) -> Network:
    """M0's trunk, and its fc6 and fc7 where they fit: alexnet's and vgg16's fc7 at `fc` 4096, fc6 only at their own grid.

    classes : what the classifier tells apart, without background
    """
    network = Network(backbones.restore(contents), layers, classes)
    theirs = [layer for layer in network.backbone.crop_fc.modules() if isinstance(layer, nn.Linear)]
    for mine, old in zip((network.head.fc6, network.head.fc7), theirs, strict=False):
        if mine.weight.shape == old.weight.shape:
            mine.load_state_dict(old.state_dict())
    return network


def for_detection(classifier: Network, classes: list[str], scales: list[int], window: Window) -> Network:
    """The classifier with a fresh (C+1)-way softmax for windows at these scales; the other layers are the same objects."""
    network = Network(classifier.backbone, classifier.layers, classes, scales, window)
    network.head = classifier.head
    network.head.renew(len(classes) + 1)
    return network


def save(path: Path, network: Network) -> None:
    """The network as a file: trunk, recipe, pyramid, fc layers, classes, and the windows' rule once there is one."""
    contents = {
        **backbones.describe(network.backbone),
        "classes": network.classes,
        "layers": network.layers.model_dump(),
        "scales": network.scales,
        "window": network.window.model_dump() if network.window else None,
        "head": network.head.state_dict(),
    }
    checkpoint.save(path, contents)


def load(path: Path) -> Network:
    """What `save` wrote, in evaluation mode."""
    contents = checkpoint.load(path, "backbone", "recipe", "tensors", "classes", "layers", "scales", "window", "head")
    window = Window(**contents["window"]) if contents["window"] else None
    network = Network(
        backbones.restore(contents), Layers(**contents["layers"]), contents["classes"], contents["scales"], window
    )
    network.head.load_state_dict(contents["head"])
    return network.eval()


def inference_trunk(network: Network, place: torch.device) -> nn.Module:
    """The trunk for maps that need no gradient: batch norm folded, channels-last, on its device."""
    folded = backbones.fold_batch_norm(network.backbone.trunk)
    return folded.to(place, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
