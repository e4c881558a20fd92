"""R-CNN (Girshick et al. 2014): a network on one warped crop per proposal, and its features (paper §2.1, §2.3).

N crops, R regions of an image, C classes without background, S side of a crop in pixels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones import backbones
from lib.backbones.device import Device
from lib.backbones.inference import for_inference
from lib.boxes.boxes import Boxes
from lib.images.image_set import ImageSet
from lib.images.warp import Crops, Uncut, sample, uncut, warp
from lib.stage.params import Settings
from lib.storage import checkpoint, shards
from lib.storage.by_image import ByImage

FEATURES = ("pool5", "fc7")


class Crop(Settings):
    """How a region becomes the network's input.

    side       : of the square crop, pixels (the paper's AlexNet: 227)
    context    : border of context, pixels of a crop of side 227; it scales with `side` (paper: 16)
    shape      : warp (each axis scaled by itself; paper) or square
    pool5_grid : cells per side of the pool5 features; a larger feature map is averaged down to this
    """

    side: int = Field(ge=32, le=1024)
    context: float = Field(ge=0, lt=113)
    shape: Literal["warp", "square"]
    pool5_grid: int = Field(ge=1)


class RcnnNetwork(nn.Module):
    """A backbone with the (C+1)-way softmax that replaces ImageNet's classifier for fine-tuning.

    classifier : Gaussian weights of deviation 0.01, bias 0 (the authors' prototxt)
    """

    def __init__(self, backbone: backbones.Backbone, classes: list[str], crop: Crop) -> None:
        super().__init__()
        self.backbone = backbone
        self.classes, self.crop = classes, crop
        self.reduce = nn.AdaptiveAvgPool2d(crop.pool5_grid)
        self.classifier = nn.Linear(backbone.fc7_features, len(classes) + 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """float32 (N, 3, S, S) normalised -> pool5 (N, D5), fc7 (N, D7), logits (N, C+1)."""
        last, fc7 = self.backbone(crops)
        if max(last.shape[2:]) > self.crop.pool5_grid:
            last = self.reduce(last)
        return last.flatten(1), fc7, self.classifier(fc7)

    def prepare(self, crops: Crops, device: Device) -> Tensor:
        """Crops -> normalised float32 (N, 3, S, S), channels-last, on the device; gaps are exactly 0, the mean."""
        return crops.normalised(self.backbone.recipe, device.put)

    def cut(self, image: NDArray[np.uint8], boxes: Boxes) -> Crops:
        """The crops of some boxes of an image."""
        return warp(image, boxes, self.crop.side, self.crop.context, self.crop.shape)

    def uncut(self, image: NDArray[np.uint8], boxes: Boxes) -> Uncut:
        """The same crops, for `batches` to cut on the device."""
        return uncut(image, boxes, self.crop.side, self.crop.context, self.crop.shape)

    def batches(self, crops: Crops | Uncut, device: Device, size: int) -> Iterator[Tensor]:
        """What `prepare` makes of `size` crops after another; an image with uncut ones goes to the device once."""
        if isinstance(crops, Crops):
            for start in range(0, len(crops.pixels), size):
                rows = slice(start, start + size)
                yield self.prepare(Crops(crops.pixels[rows], crops.covered[rows]), device)
            return
        image = device.put(crops.image).permute(2, 0, 1).float()
        for points in device.put(crops.points).split(size):
            pixels, gaps = sample(image, points)
            yield self.backbone.recipe(pixels).masked_fill_(gaps, 0)


def describe(network: RcnnNetwork) -> dict[str, Any]:
    """The whole network as the contents of a file: backbone, recipe, crop, classes."""
    return {
        **backbones.describe(network.backbone),
        "classes": network.classes,
        "crop": network.crop.model_dump(),
        "classifier": network.classifier.state_dict(),
    }


def load(path: Path) -> RcnnNetwork:
    """The network of a file that holds what `describe` returned, in evaluation mode."""
    contents = checkpoint.load(path, "backbone", "recipe", "tensors", "classes", "crop", "classifier")
    network = RcnnNetwork(backbones.restore(contents), contents["classes"], Crop(**contents["crop"]))
    network.classifier.load_state_dict(contents["classifier"])
    return network.eval()


class Extractor:
    """Features of the regions of one image after another.

    model : a file for `load`;  device : where to run;  batch : crops in one forward pass
    """

    def __init__(self, model: Path, device: Device, batch: int) -> None:
        self.network = load(model)
        self.classes = self.network.classes
        self._device, self._batch = device, batch
        self._folded = for_inference(self.network, device)
        side = self.network.crop.side
        with torch.inference_mode():
            outputs = self._folded(torch.zeros(1, 3, side, side, device=device.torch_device))
        self.widths = {name: output.shape[1] for name, output in zip(FEATURES, outputs, strict=False)}

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> Crops | Uncut:
        """The part that needs no network; may run in a thread ahead of `features`. A GPU cuts the crops itself."""
        cut = self.network.cut if self._device.torch_device.type == "cpu" else self.network.uncut
        return cut(image, boxes)

    def features(self, crops: Crops | Uncut, dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        """Rows by name: `pool5` (R, D5) and `fc7` (R, D7); float32 `probabilities` (R, C+1).

        dtype : of pool5 and fc7; float16 where they are to be stored: half as much to bring back from a GPU
        """
        rows: dict[str, list[Tensor]] = {"pool5": [], "fc7": [], "probabilities": []}
        with torch.inference_mode(), self._device.autocast():
            for inputs in self._folded.batches(crops, self._device, self._batch):
                pool5, fc7, logits = self._folded(inputs)
                columns = pool5.to(dtype), fc7.to(dtype), logits.float().softmax(1)
                for name, column in zip(rows, columns, strict=True):
                    rows[name].append(column)
        return self._device.fetch({name: torch.cat(parts) for name, parts in rows.items()})


class TrainingFeatures:
    """Features of the regions of training images for box regressors, as `extract` stored them.

    features, model : the store; the network, which needs not run again
    image_set, proposals : the regions of each image. Raises InputError where the store is of other regions
    """

    def __init__(self, features: Path, model: Path, image_set: ImageSet, proposals: ByImage) -> None:
        store = shards.Reader(features)
        for image_id in image_set.ids:
            store.check(image_id, image_set.regions(image_id, proposals))
        self.width, self.read = store.width, store.read
