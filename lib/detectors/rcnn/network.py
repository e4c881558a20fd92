"""R-CNN (Girshick et al. 2014): a network on one warped crop per proposal, linear SVMs and box regressors on its features.

N crops, R regions of an image, C classes without background, S side of a crop in pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from lib.backbones import backbones
from lib.backbones.device import Device, Precision
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.images.image_set import Photographs
from lib.images.warp import Crops, warp
from lib.linear import files as linear
from lib.parallel.clock import Clock
from lib.stage.params import Settings
from lib.storage import checkpoint
from lib.training.windows import Windows

FEATURES = ("pool5", "fc7")
REGIONS = str  # where its regions come from: a table of proposals


class Crop(Settings):
    """How a region becomes the network's input.

    side       : of the square crop, pixels (the paper's AlexNet: 227)
    context    : border of context, pixels of a crop of side 227; it scales with `side` (paper: 16)
    shape      : warp (each axis by itself; paper) or square
    pool5_grid : cells a side that a pool5 feature keeps; a larger map is averaged down to this
    """

    side: int = Field(ge=32, le=1024)
    context: float = Field(ge=0, lt=113)
    shape: Literal["warp", "square"]
    pool5_grid: int = Field(ge=1)


class Network(nn.Module):
    """A backbone with the (C+1)-way softmax that replaces ImageNet's classifier for fine-tuning.

    classifier : Gaussian weights of deviation 0.01, bias 0 (the authors' prototxt)
    """

    def __init__(self, backbone: backbones.Backbone, classes: list[str], crop: Crop) -> None:
        super().__init__()
        self.backbone, self.classes, self.crop = backbone, classes, crop
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
        """Crops -> normalised float32 (N, 3, S, S) in channels-last order on the device, gaps at exactly 0 (the mean)."""
        inputs = self.backbone.recipe(torch.from_numpy(crops.pixels).to(device.place).permute(0, 3, 1, 2))
        for crop, y1, y2, x1, x2 in crops.gaps():
            inputs[crop, :, y1:y2, x1:x2] = 0
        return inputs

    def cut(self, image: NDArray[np.uint8], boxes: Boxes) -> Crops:
        """The crops of some boxes of an image."""
        return warp(image, boxes, self.crop.side, self.crop.context, self.crop.shape)


def save(path: Path, network: Network) -> None:
    """The whole network as a file: backbone, recipe, crop, classes."""
    contents = {
        **backbones.describe(network.backbone),
        "classes": network.classes,
        "crop": network.crop.model_dump(),
        "classifier": network.classifier.state_dict(),
    }
    checkpoint.save(path, contents)


def load(path: Path) -> Network:
    """What `save` wrote."""
    contents = checkpoint.load(path, "backbone", "recipe", "tensors", "classes", "crop", "classifier")
    network = Network(backbones.restore(contents), contents["classes"], Crop(**contents["crop"]))
    network.classifier.load_state_dict(contents["classifier"])
    return network.eval()


def losses(network: Network, crops: Crops, windows: Windows, batch: int, device: Device) -> dict[str, Tensor]:
    """Softmax cross-entropy over C+1 classes (paper §2.3), its share of the mean over the `batch` of which this is a part."""
    labels = torch.from_numpy(windows.label.astype(np.int64)).to(device.place)
    logits = network(network.prepare(crops, device))[2]
    return {"softmax": nn.functional.cross_entropy(logits.float(), labels, reduction="sum") / batch}


def cut_windows(
    network: Network, photographs: Photographs, windows: Windows, mirror: NDArray[np.bool_]
) -> Crops:
    """The crops of windows of many images, in their order.

    mirror : bool (N,) which crops to flip; the flip comes after the crop, as in Caffe's layer
    """
    parts, order = [], []
    for position in np.unique(windows.image):
        rows = np.flatnonzero(windows.image == position)
        parts.append(network.cut(photographs.image(photographs.ids[position]), windows.boxes[rows]))
        order.append(rows)
    crops = Crops.concatenate(parts)
    back = np.argsort(np.concatenate(order))
    return Crops(crops.pixels[back], crops.covered[back]).mirrored(mirror)


class Extractor:
    """Features of the regions of one image after another.

    model  : the file that `save` wrote;  device : where to run;  batch : crops in one forward pass
    """

    def __init__(self, model: Path, device: Device, batch: int) -> None:
        self.network = load(model)
        self.classes = self.network.classes
        self._device, self._batch = device, batch
        folded = backbones.fold_batch_norm(self.network)
        self._fast: Network = folded.to(device.place, memory_format=torch.channels_last)  # type: ignore[assignment,call-overload]
        side = self.network.crop.side
        with torch.inference_mode():
            shapes = self._fast(torch.zeros(1, 3, side, side, device=device.place))
        self.widths = {name: shape.shape[1] for name, shape in zip(FEATURES, shapes, strict=False)}

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> Crops:
        """The part that needs no network; may run in a thread ahead of `features`."""
        return self.network.cut(image, boxes)

    def features(self, crops: Crops) -> dict[str, NDArray[np.float32]]:
        """float32 rows by name: `pool5` (R, D5), `fc7` (R, D7) and `probabilities` (R, C+1)."""
        rows: dict[str, list[Tensor]] = {"pool5": [], "fc7": [], "probabilities": []}
        with torch.inference_mode(), self._device.autocast():
            for start in range(0, len(crops.pixels), self._batch):
                part = Crops(crops.pixels[start : start + self._batch], crops.covered[start : start + self._batch])
                pool5, fc7, logits = self._fast(self._fast.prepare(part, self._device))
                for name, value in zip(rows, (pool5, fc7, logits.float().softmax(1)), strict=True):
                    rows[name].append(value.float().cpu())
        return {name: torch.cat(parts).numpy() for name, parts in rows.items()}


class Detect(Selection):
    """Block `rcnn.detect`: which regions become detections, and

    scores    : svm, or the network's softmax (paper, appendix B: 54.2 against 50.9 mAP)
    regress   : move the boxes by their class's regressor (paper §3.5)
    batch     : crops in one forward pass
    precision : of the forward passes
    """

    scores: Literal["svm", "softmax"]
    regress: bool
    batch: int = Field(ge=1)
    precision: Precision


class Detector:
    """Scores and refines the proposals of an image with the trained models of R-CNN.

    models   : one folder with cnn.pt, and svm.pt and boxes.pt where they are used
    settings : block `rcnn.detect`;  place : where to run;  clock : takes the time of each part
    """

    wants_proposals = True

    def __init__(self, models: Sequence[Path], settings: Detect, place: Device, clock: Clock) -> None:
        folder = models[0]
        self._extractor, self._clock = Extractor(folder / "cnn.pt", place, settings.batch), clock
        self.classes = self._extractor.classes
        self._svm = linear.Classifiers(folder / "svm.pt", self.classes) if settings.scores == "svm" else None
        self._boxes = linear.Regressors(folder / "boxes.pt", self.classes) if settings.regress else None

    def prepare(self, image: NDArray[np.uint8], boxes: Boxes) -> tuple[Boxes, Crops]:
        """The part that needs no network; may run in a thread ahead of the rest."""
        with self._clock("crop"):
            return boxes, self._extractor.prepare(image, boxes)

    def __call__(self, prepared: tuple[Boxes, Crops]) -> Scored:
        """The regions, their scores, minus infinity where a class has no classifier, and how they move."""
        boxes, crops = prepared
        with self._clock("network"):
            rows = self._extractor.features(crops)
        with self._clock("scores"):
            scores = self._svm.scores(rows) if self._svm else rows["probabilities"][:, 1:]
        return Scored(boxes, scores, self._boxes.refine(rows) if self._boxes else unmoved)
