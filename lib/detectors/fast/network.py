"""Fast R-CNN (Girshick 2015, §2): one pass of the trunk per image, RoI pooling, a head with class scores and boxes.

Faster R-CNN's detector is this network on other proposals. R regions of an image, C classes without background,
D features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.frozen import FrozenNorm
from lib.backbones.inference import for_inference
from lib.backbones.low_rank import restore_ranks
from lib.backbones.region_layers import region_layers
from lib.backbones.scaling import Scale, choose_level, resize, to_input
from lib.boxes.boxes import Boxes, clip
from lib.boxes.coding import decode
from lib.boxes.selection import Refine
from lib.images.decode import Image
from lib.parallel.clock import Clock
from lib.pooling import roi
from lib.pooling.roi import Pooling
from lib.stage.errors import Fault, InputError


class DetectionHead(nn.Module):
    """Class scores and box deltas of pooled regions.

    layers, features : from `region_layers`: the layers up to fc7, and D;  classes : C
    pooling    : of the regions
    score, box : linear layers on fc7 with C + 1 and 4 (C + 1) outputs; Gaussian weights of deviation 0.01 and 0.001,
                 biases 0 (paper §2.3; the authors' prototxts)
    mean, std  : buffers float32 (C + 1, 4), statistics of the targets. The weights predict normalised targets, in
                 memory and in files; only `deltas` undoes the normalisation, so that it happens exactly once
    """

    mean: Tensor
    std: Tensor

    def __init__(self, layers: nn.Module, features: int, classes: int, pooling: Pooling = "max") -> None:
        super().__init__()
        self.layers, self.features, self.pooling = layers, features, pooling
        self.score = nn.Linear(features, classes + 1)
        self.box = nn.Linear(features, 4 * (classes + 1))
        for layer, deviation in ((self.score, 0.01), (self.box, 0.001)):
            nn.init.normal_(layer.weight, std=deviation)
            nn.init.zeros_(layer.bias)
        self.register_buffer("mean", torch.zeros(classes + 1, 4))
        self.register_buffer("std", torch.ones(classes + 1, 4))

    def forward(self, regions: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (R, channels, g, g) -> logits (R, C+1), background first, and normalised deltas (R, C+1, 4)."""
        return self.outputs(self.layers(regions))

    def outputs(self, fc7: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` from the fc7 rows (R, D). R may be 0."""
        # In half precision scores would tie, and deltas would keep 8 bits.
        with torch.autocast(fc7.device.type, enabled=False):
            return self.score(fc7.float()), self.box(fc7.float()).unflatten(1, (-1, 4))

    def deltas(self, normalised: Tensor) -> Tensor:
        """The network's normalised deltas (R, C+1, 4) -> dx dy dw dh (R, C+1, 4), for `coding.decode`."""
        return normalised * self.std + self.mean

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Sets the statistics, float (C+1, 4) each, std above 0."""
        self.mean.copy_(mean)
        self.std.copy_(std)


class FastNetwork(FrozenNorm):
    """A trunk with a detection head, without the other layers of the backbone.

    trunk, stride, first, grid, recipe : the backbone's;  head : of `DetectionHead`
    """

    def __init__(self, backbone: Backbone, head: DetectionHead) -> None:
        super().__init__()
        self.trunk, self.head = backbone.trunk, head
        self.stride, self.first, self.grid = backbone.stride, backbone.first, backbone.grid
        self.recipe = backbone.recipe

    def pool(self, maps: Tensor, rois: Tensor) -> Tensor:
        """float32 (R, channels, g, g) of `rois` (R, 5), which are as `roi_pool` takes them, pooled as the head says."""
        return roi.pool(maps, rois, self.stride, self.first, self.grid, self.head.pooling)

    def forward(self, images: Tensor, rois: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (N, 3, H, W) and regions (R, 5) -> logits (R, C+1), normalised deltas (R, C+1, 4)."""
        logits, deltas = self.head(self.pool(self.trunk(images), rois))
        return logits, deltas


def describe_head(head: DetectionHead, fc: int, dropout: float, ranks: Sequence[int] = ()) -> dict[str, Any]:
    """The section `head` of a model file.

    fc, dropout : as `region_layers` takes them;  ranks : of fc6 and fc7 where they are low-rank products
    """
    shape = {"fc": fc, "dropout": dropout, "ranks": list(ranks), "pooling": head.pooling}
    return {**shape, "tensors": head.state_dict()}


def restore_head(
    backbone: Backbone, section: Mapping[str, Any], classes: int, dropout: float | None = None
) -> DetectionHead:
    """The head of a section from `describe_head`, on a backbone of the same name.

    dropout : instead of the file's, for further training
    """
    layers, features = region_layers(backbone, section["fc"], section["dropout"] if dropout is None else dropout)
    if section["ranks"]:
        restore_ranks(layers, section["ranks"])
    head = DetectionHead(layers, features, classes, section.get("pooling", "max"))
    # By order, not by name: a dropout layer has no tensors, but the numbers in the names of later layers count it.
    head.load_state_dict(dict(zip(head.state_dict(), section["tensors"].values(), strict=True)))
    return head


def load(path: Path) -> tuple[FastNetwork, model_file.Model]:
    """The network of a model file with a head, in evaluation mode, and the whole contents of the file."""
    model = model_file.read(path, "head")
    head = restore_head(model.backbone, model.sections["head"], len(model.classes))
    return FastNetwork(model.backbone, head).eval(), model


@dataclass(frozen=True)
class RegionInput:
    """An image with its regions, ready for the network.

    images : uint8 (H, W, 3), the image at each size that a region needs
    rois   : for each of these sizes, float32 (r, 5) as `roi_pool` takes them, no two with the same cells
    row_of : int64 (R,) the row of each region in all `rois` joined; regions with the same cells share one
    boxes  : float32 (R, 4) of the regions, in pixels of the image
    """

    images: list[NDArray[np.uint8]]
    rois: list[NDArray[np.float32]]
    row_of: NDArray[np.int64]
    boxes: Boxes


class RegionScorer:
    """The network run on the regions of one image after another; reads only, so threads may share it.

    model : a file with a head;  batch : regions in one pass of the head, which bounds its memory
    """

    def __init__(self, model: Path, device: Device, batch: int, clock: Clock) -> None:
        network, self.model = load(model)
        if not isinstance(self.model.scale, Scale):
            problem = f"sees its images as {self.model.scale!r}"
            raise InputError([Fault("other size", str(model), problem, "a short and a longest side", "Run: dvc repro")])
        self.scale, self.classes = self.model.scale, self.model.classes
        self._device, self._batch = device, batch
        self._clock = clock
        self.network = for_inference(network, device)

    def prepare(self, image: Image, boxes: Boxes) -> RegionInput:
        """Resizes the image and scales its regions, float32 (R, 4), which are clipped to it. R may be 0."""
        with self._clock.host("resize"):
            height, width = image.shape[:2]
            boxes = clip(boxes, width, height)
            factors = self.scale.factors(width, height)
            levels = choose_level(boxes, factors)
            images, rois = [], []
            row_of, count = np.zeros(len(boxes), np.int64), 0
            for level in np.unique(levels):
                rows = np.flatnonzero(levels == level)
                scaled = boxes[rows] * np.float32(factors[level])
                first, group = roi.distinct(scaled, self.network.stride, self.network.head.pooling)
                images.append(resize(image, factors[level]))
                rois.append(np.hstack([np.zeros((len(first), 1), np.float32), scaled[first]]))
                row_of[rows] = group + count
                count += len(first)
            return RegionInput(images, rois, row_of, boxes)

    def __call__(
        self, prepared: RegionInput, layers: Sequence[str], dtype: torch.dtype = torch.float32
    ) -> dict[str, NDArray[np.floating]]:
        """float32 rows of every region by name: `logits` (R, C+1), `deltas` (R, C+1, 4), no longer normalised.

        layers : further rows to return, in `dtype`: `fc7` (R, D), or none
        """
        names = [*layers, "logits", "deltas"]
        head = self.network.head
        dtypes = {name: dtype if name in layers else torch.float32 for name in names}
        parts: dict[str, list[Tensor]] = {name: [self._no_rows(name).to(dtypes[name])] for name in names}
        with torch.inference_mode(), self._device.autocast():
            for image, rois in zip(prepared.images, prepared.rois, strict=True):
                with self._clock("trunk"):
                    maps = self.network.trunk(to_input(image, self.network.recipe, self._device))
                with self._clock("regions"):
                    for batch in self._device.put(rois).split(self._batch):
                        fc7 = head.layers(self.network.pool(maps, batch))
                        logits, deltas = head.outputs(fc7)
                        values = {"fc7": fc7, "logits": logits, "deltas": head.deltas(deltas.float())}
                        for name in names:
                            parts[name].append(values[name].to(dtypes[name]))
        with self._clock("regions"):
            rows = self._device.fetch({name: torch.cat(values) for name, values in parts.items()})
        return {name: values[prepared.row_of] for name, values in rows.items()}

    def _no_rows(self, name: str) -> Tensor:
        labels = len(self.classes) + 1
        shapes = {"fc7": (self.network.head.features,), "logits": (labels,), "deltas": (labels, 4)}
        return torch.zeros(0, *shapes[name], device=self._device.torch_device)


class Extractor:
    """Features of the regions of one image after another, for SVMs on Fast R-CNN (paper §5.4; train_svms.py)."""

    def __init__(self, model: Path, device: Device, batch: int) -> None:
        self._score_regions = RegionScorer(model, device, batch, Clock())
        self.classes, self.prepare = self._score_regions.classes, self._score_regions.prepare
        self.widths = {"fc7": self._score_regions.network.head.features}

    def features(self, prepared: RegionInput, dtype: torch.dtype = torch.float32) -> dict[str, NDArray[np.floating]]:
        """Rows by name: `fc7` (R, D) in `dtype`, as in R-CNN's extractor, and float32 `probabilities` (R, C+1)."""
        rows = self._score_regions(prepared, ("fc7",), dtype)
        return {"fc7": rows["fc7"], "probabilities": softmax(rows["logits"])}


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities float32 (R, C+1), background first."""
    return torch.from_numpy(logits).softmax(1).numpy()


def refine(deltas: NDArray[np.float32]) -> Refine:
    """The function (rows, labels from 0, boxes) -> boxes, each moved by the deltas (R, C+1, 4) of its row and class."""
    return lambda rows, labels, boxes: decode(boxes, deltas[rows, labels + 1])
