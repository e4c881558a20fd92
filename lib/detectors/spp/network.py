"""SPPnet (He et al. 2014): a feature map per image and scale, windows pooled from it, fc layers (paper §2, §4.1).

R regions, C classes without background, D pooled features, F features of fc7.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones import backbones
from lib.backbones.device import Device, pick_device
from lib.backbones.inference import for_inference
from lib.boxes.boxes import Boxes
from lib.images.image_set import ImageSet
from lib.parallel.clock import Clock
from lib.pooling.map_store import MapStore
from lib.pooling.pyramid import Map, Window, choose_scale, compute_maps, pool_windows, scaled
from lib.pooling.roi import pool_whole
from lib.stage.params import Settings
from lib.storage import checkpoint
from lib.storage.by_image import ByImage


class SppLayers(Settings):
    """Block `spp.layers`.

    levels  : n of each pyramid level, pooled into n x n bins, joined in this order (paper §4.1: 1, 2, 3, 6: 50 bins)
    fc      : width of fc6 and fc7 (paper: 4096)
    dropout : share dropped after fc6 and fc7 in training (authors: 0.5); at 0 there is no such layer
    """

    levels: list[int] = Field(min_length=1)
    fc: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)


class SppHead(nn.Module):
    """fc6 and fc7 with their ReLU, and a classifier.

    features : D;  outputs : of the classifier, Gaussian weights of deviation 0.01 and bias 0 (paper §4.1; the authors'
    prototxt starts the bias at 1 for every class alike, which is the same softmax)
    """

    def __init__(self, features: int, layers: SppLayers, outputs: int) -> None:
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


class SppNetwork(nn.Module):
    """The whole network.

    classes        : of the classifier; once it is fine-tuned, background comes before them, at index 0
    scales, window : what the fc layers were fine-tuned for, the sides and the window rule; None before that
    """

    def __init__(
        self, backbone: backbones.Backbone, layers: SppLayers, classes: list[str], scales: list[int] | None = None,
        window: Window | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers
        self.classes = classes
        self.scales, self.window = scales, window
        features = backbone.channels * sum(n * n for n in layers.levels)
        self.head = SppHead(features, layers, len(classes) + (scales is not None))

    def pooled(self, inputs: Tensor) -> Tensor:
        """float32 (N, 3, S, S) normalised images -> rows (N, D) of their whole maps."""
        return pool_whole(self.backbone.trunk(inputs), self.layers.levels)

    def freeze(self, parts: int | None) -> None:
        """Freezes the first `parts` parts of the trunk, or all of it (None); the rest and the fc layers are trained.

        The layers of the backbone after its trunk are not part of this network and never trained.
        """
        self.backbone.freeze(len(self.backbone.trunk) if parts is None else parts)
        for unused in (self.backbone.crop_map, self.backbone.crop_fc):
            unused.requires_grad_(False)


def from_m0(contents: dict[str, Any], layers: SppLayers, classes: list[str]) -> SppNetwork:
    """M0's trunk, and its fc6 and fc7 where their shapes fit; other layers are fresh.

    AlexNet's and VGG16's fc7 fits where `fc` is 4096, their fc6 only where the one level is their own grid.

    classes : of the classifier, without background
    """
    network = SppNetwork(backbones.restore(contents), layers, classes)
    pretrained = [layer for layer in network.backbone.crop_fc.modules() if isinstance(layer, nn.Linear)]
    for layer, source in zip((network.head.fc6, network.head.fc7), pretrained, strict=False):
        if layer.weight.shape == source.weight.shape:
            layer.load_state_dict(source.state_dict())
    return network


def for_detection(classifier: SppNetwork, classes: list[str], scales: list[int], window: Window) -> SppNetwork:
    """The classifier with a fresh (C+1)-way softmax for windows at these scales; its other layers are not copied."""
    network = SppNetwork(classifier.backbone, classifier.layers, classes, scales, window)
    network.head = classifier.head
    network.head.renew(len(classes) + 1)
    return network


def describe(network: SppNetwork) -> dict[str, Any]:
    """The network as the contents of a file: trunk, recipe, pyramid, fc layers, classes, the scales and window rule."""
    return {
        **backbones.describe(network.backbone),
        "classes": network.classes,
        "layers": network.layers.model_dump(),
        "scales": network.scales,
        "window": network.window.model_dump() if network.window else None,
        "head": network.head.state_dict(),
    }


def load(path: Path) -> SppNetwork:
    """The network of a file that holds what `describe` returned, in evaluation mode."""
    contents = checkpoint.load(path, "backbone", "recipe", "tensors", "classes", "layers", "scales", "window", "head")
    window = Window(**contents["window"]) if contents["window"] else None
    network = SppNetwork(
        backbones.restore(contents), SppLayers(**contents["layers"]), contents["classes"], contents["scales"], window
    )
    network.head.load_state_dict(contents["head"])
    return network.eval()


class SppInput(NamedTuple):
    """What the network needs of an image.

    levels : at each scale, uint8 (H, W, 3), or its feature map;  sides : width and height of the image
    boxes  : float32 (R, 4)
    """

    levels: Sequence[NDArray[np.uint8] | Map]
    sides: tuple[int, int]
    boxes: Boxes


class Extractor:
    """Features of the regions of one image after another.

    model : a file of a fine-tuned network;  device : where to run;  batch : regions in one pass of the fc layers
    maps  : the store of the images' feature maps, for `recall`;  clock : measures the time of each part
    """

    def __init__(
        self, model: Path, device: Device, batch: int, maps: Path | None = None, clock: Clock | None = None
    ) -> None:
        self.network = load(model)
        self.classes = self.network.classes
        self._device, self._batch = device, batch
        self._clock = clock or Clock()
        self._scales, self._window = self.network.scales or [], self.network.window
        self._trunk = for_inference(self.network.backbone.trunk, device)
        self._head = self.network.head.to(device.torch_device)
        self._maps = MapStore(maps) if maps else None
        self.widths = {"pool5": self._head.fc6.in_features, "fc7": self._head.fc7.out_features}

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> SppInput:
        """The part that needs no network; may run in a thread ahead of `features`."""
        with self._clock.host("resize"):
            levels = [scaled(image, scale) for scale in self._scales]
        return SppInput(levels, (image.shape[1], image.shape[0]), boxes)

    def recall(self, image_id: str, sides: tuple[int, int], boxes: Boxes) -> SppInput:
        """`prepare` for an image whose feature maps are in the store: the trunk is not run again."""
        assert self._maps is not None
        return SppInput([self._maps.map(image_id, scale) for scale in self._scales], sides, boxes)

    def features(self, prepared: SppInput, dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        """Rows by name: `pool5` (R, D) of the pyramid and `fc7` (R, F); float32 `probabilities` (R, C+1).

        dtype : of pool5 and fc7; float16 where they are to be stored: half as much to bring back from a GPU
        """
        pooled = self.pool(prepared)
        parts: dict[str, list[Tensor]] = {"fc7": [], "probabilities": []}
        with self._clock("regions"), torch.inference_mode():
            with self._device.autocast():
                for start in range(0, max(len(pooled), 1), self._batch):
                    fc7, logits = self._head(self._device.put(pooled[start : start + self._batch]).float())
                    parts["fc7"].append(fc7.to(dtype))
                    parts["probabilities"].append(logits.float().softmax(1))
            rows = self._device.fetch({name: torch.cat(values) for name, values in parts.items()})
        return {"pool5": pooled.astype(rows["fc7"].dtype), **rows}

    def pool(self, prepared: SppInput) -> NDArray[np.float16]:
        """float16 (R, D): the rows `pool5` alone, without the fc layers."""
        levels, sides, boxes = prepared
        assert self._window is not None
        with self._clock("trunk"):
            pixels = [level for level in levels if not isinstance(level, Map)]
            stored = [level for level in levels if isinstance(level, Map)]
            maps = stored or compute_maps(self._trunk, pixels, self.network.backbone.recipe, self._device)
        with self._clock("regions"):
            scale_of = choose_scale(boxes, sides, self._scales, self._window)
            return pool_windows(maps, boxes, sides, self._scales, scale_of, self._window, self.network.layers.levels)


class TrainingFeatures:
    """Features of the regions of training images for box regressors, in half precision as `extract` stores features.

    Pooled anew from the stored maps: at 50 bins a region they would take more disk than all maps.

    maps, model : a store of feature maps, a file of the fine-tuned network
    image_set, proposals : the regions of each image
    """

    def __init__(self, maps: Path, model: Path, image_set: ImageSet, proposals: ByImage) -> None:
        self._extractor = Extractor(model, pick_device("cpu", "float32"), sys.maxsize, maps)
        self._image_set, self._proposals = image_set, proposals

    def width(self, layer: str) -> int:
        """Row length of a layer."""
        return self._extractor.widths[layer]

    def read(self, layer: str, image_id: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 (n, width): the regions of an image with these numbers."""
        boxes = self._image_set.regions(image_id, self._proposals)[rows]
        prepared = self._extractor.recall(image_id, self._image_set.size(image_id), boxes)
        pooled = layer == "pool5"
        values = self._extractor.pool(prepared) if pooled else self._extractor.features(prepared)[layer]
        return values.astype(np.float16).astype(np.float32)
