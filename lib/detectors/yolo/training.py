"""YOLO's training (Redmon et al. 2016, §2.2): augmented squares, a cell for each object, five squared errors.

N images of a part of a batch, S cells along a side of the grid, C classes, P objects of the part with a cell of their
own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import nn
from torch.nn import functional

from lib.backbones import model_file
from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.scaling import LEAST_SIDE, Square
from lib.detectors.dense.augment import Example
from lib.detectors.dense.network import DenseNetwork, check_strides, contents, to_batch
from lib.detectors.dense.whole_images import Examples, WholeImages, trained_trunk
from lib.detectors.yolo.augment import Jitter
from lib.detectors.yolo.losses import YoloLoss
from lib.detectors.yolo.network import Grid, YoloHead, YoloLayers
from lib.detectors.yolo.targets import cautions, of_cells
from lib.images.image_set import ImageSet
from lib.stage.errors import Fault, InputError
from lib.training import loop as training
from lib.training.task import Given, Phase, Task


class YoloTraining(WholeImages):
    """Block `yolo.train`: see `WholeImages`, and

    scale    : a square, since a fully connected layer has an input for each of its places
    loss     : see `YoloLoss`
    least    : objects of a smaller side, in sides of the image, are left out (Darknet: 0.005)
    pretrain : iterations before, in which the trunk learns at half of the side which classes an image has (paper: a
               classifier of ImageNet at 224, the detector at 448; such a classifier is what M0 is already)
    """

    scale: Square
    augment: Jitter
    loss: YoloLoss
    least: float = Field(ge=0, lt=1)
    pretrain: int = Field(ge=0)


@dataclass(frozen=True)
class YoloPart:
    """Some images of a batch and what their cells are to learn.

    images : uint8 (side, side, 3) each, as the network sees them;  ids : their keys
    rows   : int64 (P,) the cells of the objects, among the N·S²;  labels : int64 (P,) from 0
    boxes  : float32 (P, 4), see `CellObjects`
    """

    images: list[NDArray[np.uint8]]
    ids: list[str]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]


class YoloBatches(Examples):
    """The mini-batches of one training; batch i is a pure function of (seed, stage, i)."""

    def __init__(
        self, image_set: ImageSet, cells: int, fill: tuple[float, ...], settings: YoloTraining, seed: int, stage: str
    ) -> None:
        """cells : S;  fill : see `Examples`"""
        super().__init__(image_set, fill, settings, seed, stage)
        self._cells, self._least = cells, settings.least

    def __call__(self, i: int) -> list[YoloPart]:
        """The images of batch i and what their cells are to learn."""
        random = training.generator(self._seed, f"{self._stage} cells", i)
        return [self._part(part, random) for part in self.parts(i)]

    def _part(self, part: list[tuple[str, Example]], random: np.random.Generator) -> YoloPart:
        objects = [
            of_cells(example.boxes, example.labels, (example.image.shape[1], example.image.shape[0]), self._cells,
                     self._least, random)
            for _, example in part
        ]
        rows = [image * self._cells**2 + of_image.cell for image, of_image in enumerate(objects)]
        return YoloPart(
            [example.image for _, example in part], [image_id for image_id, _ in part], np.concatenate(rows),
            *(np.concatenate(arrays) for arrays in zip(*(of_image[1:] for of_image in objects), strict=True)),
        )


def part_losses(
    network: DenseNetwork[YoloHead], trunk: nn.Module, part: YoloPart, settings: YoloTraining, device: Device
) -> training.Part:
    """The losses of a part of a batch, each its share of the mean over the images. trunk : see `trained_trunk`"""
    outputs = network.head(trunk(to_batch(part.images, network.recipe, device)))
    sums = settings.loss(outputs, *(device.put(values) for values in (part.rows, part.labels, part.boxes)))
    return training.Part({name: value / settings.images for name, value in sums.items()}, part.ids)


class PresencePart(NamedTuple):
    """Some images of a batch of the classifier that goes before the detector.

    images : uint8 (side, side, 3) each;  ids : their keys;  present : float32 (N, C) 1 for a class that is there
    """

    images: list[NDArray[np.uint8]]
    ids: list[str]
    present: NDArray[np.float32]


class PresenceBatches(Examples):
    """The mini-batches of the classifier."""

    def __call__(self, i: int) -> list[PresencePart]:
        """The images of batch i and the classes that they have."""
        classes, made = np.eye(len(self._image_set.classes), dtype=np.float32), []
        for part in self.parts(i):
            present = np.stack([classes[example.labels].max(axis=0, initial=0) for _, example in part])
            made.append(PresencePart([example.image for _, example in part], [name for name, _ in part], present))
        return made


def presence_losses(
    network: DenseNetwork[YoloHead], trunk: nn.Module, part: PresencePart, settings: YoloTraining, device: Device
) -> training.Part:
    """The logistic losses of the classes of each image, its share of their mean over the images."""
    maps = trunk(to_batch(part.images, network.recipe, device))[network.head.layers.stride]
    logits = network.get_submodule("presence")(maps.mean(dim=(2, 3)).float())
    losses = functional.binary_cross_entropy_with_logits(logits, device.put(part.present), reduction="none")
    return training.Part({"presence": losses.mean(dim=1).sum() / settings.images}, part.ids)


def reads(block: str, method: str) -> dict[str, Any]:
    """The settings of this training."""
    return {block: YoloTraining, f"{method}.grid": Grid, f"{method}.layers": YoloLayers}


def check(backbone: Backbone, layers: YoloLayers, grid: Grid, settings: YoloTraining, method: str) -> None:
    """Raises InputError with what does not fit together: the layers, the trunk, the grid, the images."""
    check_strides(backbone, [layers.stride], f"{method}.layers.stride")
    side, faults = settings.scale.side, []
    cells, least = layers.cells(side), 2 * max(layers.stride, LEAST_SIDE)
    if layers.fc is None and cells != grid.cells:
        allowed = f"{cells}, the cells of the last map of {side} pixels, where {method}.layers.fc is null"
        faults.append(Fault("bad setting", f"params.yaml: {method}.grid.cells", f"is {grid.cells}", allowed,
                            "Change it, the layers, or the side of the images"))
    if settings.pretrain and side < least:
        allowed = f"at least {least} beside {method}.train.pretrain: {settings.pretrain}, whose images are half as " \
                  f"large: {LEAST_SIDE} pixels or more, and a cell of the trunk's map, {layers.stride} pixels"
        faults.append(Fault("bad setting", f"params.yaml: {method}.train.scale.side", f"is {side}", allowed,
                            f"Raise it, or set {method}.train.pretrain: 0"))
    if faults:
        raise InputError(faults)


def task(given: Given) -> Task:
    """YOLO on M0's trunk. Reads the role `model` (M0). A pass is over all images."""
    images, model = given.images, model_file.read(given.path("model"))
    settings, backbone = given.settings.resolved(len(images), given.settings.images), model.backbone
    grid, layers = given.params[f"{given.method}.grid"], given.params[f"{given.method}.layers"]
    side = settings.scale.side
    check(backbone, layers, grid, settings, given.method)
    torch.manual_seed(given.seed)
    channels = backbone.level_channels[layers.stride]
    head = YoloHead(channels, side, layers, grid, len(images.classes))
    network = DenseNetwork(backbone, head)
    trunk = trained_trunk(backbone, network.levels, settings.frozen, given.device.torch_device)
    return Task(
        network, lambda: phases(given, settings, network, trunk), settings.pretrain + settings.steps,
        lambda: contents(backbone, images.classes, settings.scale, head),
        f"{settings.steps} iterations of {settings.images} images",
        cautions=cautions(images, grid.cells, settings.least, given.method),
    )


def phases(
    given: Given, settings: YoloTraining, network: DenseNetwork[YoloHead], trunk: nn.Module
) -> Iterator[Phase]:
    """The classifier at half of the side, where there is one, then the detector."""
    head, fill, device = network.head, network.recipe.mean, given.device

    def phase(
        settings: YoloTraining, fresh: nn.Module, batches: Callable[[int], Any], losses: Callable[..., training.Part]
    ) -> Phase:
        return Phase(settings, [fresh], batches, lambda part: losses(network, trunk, part, settings, device))

    if settings.pretrain:
        half = settings.model_copy(update={
            "scale": Square(side=settings.scale.side // 2), "iterations": settings.pretrain,
        })
        network.add_module("presence", nn.Linear(head.channels, head.classes))
        head.requires_grad_(False)
        yield phase(half, network.get_submodule("presence"),
                    PresenceBatches(given.images, fill, half, given.seed, f"{given.stage} presence"), presence_losses)
        head.requires_grad_(True)
        network.get_submodule("presence").requires_grad_(False)
    batches = YoloBatches(given.images, head.grid.cells, fill, settings, given.seed, given.stage)
    yield phase(settings, head, batches, part_losses)
