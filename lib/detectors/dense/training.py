"""The training of a one-stage detector: batches of whole images, every anchor of them assigned, two losses.

N images of a part of a batch, A anchors of an image, K objects of it, P positive anchors of the part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import nn
from torch.nn import functional

from lib.backbones.backbones import Backbone
from lib.backbones.device import Device
from lib.backbones.scaling import Scale, Sizing
from lib.boxes.assign import POSITIVE, Best, assign
from lib.boxes.boxes import Boxes
from lib.boxes.coding import encode
from lib.detectors.dense.anchor_fit import fit
from lib.detectors.dense.augment import Augmentation, Example
from lib.detectors.dense.losses import Loss
from lib.detectors.dense.network import DenseHead, DenseNetwork, contents, to_batch
from lib.detectors.dense.whole_images import Examples, WholeImages, trained_trunk
from lib.images.image_set import ImageSet
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings
from lib.training import loop as training
from lib.training.anchor_fit import AnchorFit
from lib.training.task import Given, Task, once


class Matching(Settings):
    """Which anchors are positive, negative, ignored: see `assign`. negative : at most `positive`"""

    positive: float = Field(gt=0, le=1)
    negative: float = Field(gt=0, le=1)
    best: Best

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.negative > self.positive:
            raise ValueError("negative up to positive: what is above positive is positive")
        return self


class DenseTraining(WholeImages):
    """Blocks `ssd.train` and `retinanet.train`: see `WholeImages`, and

    matching   : see `assign`;  loss : of the classes, see `losses`
    normaliser : what the losses are divided by: batch, the positives of the batch; image, those of each image, and the
                 images are averaged; at least 1
    beta       : smooth L1 is quadratic below; 0: the absolute difference
    box_weight : λ of the box loss
    variances  : see `Form`
    """

    augment: Augmentation
    matching: Matching
    loss: Loss
    normaliser: Literal["batch", "image"]
    beta: float = Field(ge=0)
    box_weight: float = Field(ge=0)
    variances: list[Annotated[float, Field(gt=0)]] = Field(min_length=2, max_length=2)


@dataclass(frozen=True)
class DensePart:
    """Some images of a batch and what their anchors are to learn.

    images : uint8 (h, w, 3) each, as the network sees them;  ids : their keys
    labels : int64 (N, A) 1 to C, 0 for background, IGNORED;  anchors of the padded images, see `to_batch`
    rows   : int64 (P,) the positives among the N·A anchors;  targets : float32 (P, 4) of them, see `Form`
    weight : float32 (N,) 1 / divisor of each image's losses
    """

    images: list[NDArray[np.uint8]]
    ids: list[str]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    weight: NDArray[np.float32]


class DenseBatches(Examples):
    """The mini-batches of one training; batch i is a pure function of (seed, stage, i)."""

    def __init__(
        self, image_set: ImageSet, head: DenseHead, fill: tuple[float, ...], settings: DenseTraining, seed: int,
        stage: str,
    ) -> None:
        """fill : see `Examples`"""
        super().__init__(image_set, fill, settings, seed, stage)
        self._head, self._settings = head, settings

    def __call__(self, i: int) -> list[DensePart]:
        """The images of batch i and what their anchors are to learn."""
        of_parts = self.parts(i)
        assigned = [self._assigned([example for _, example in part]) for part in of_parts]
        positives = [len(of_image) for _, positive_rows, _ in assigned for of_image in positive_rows]
        weight = np.split(weights(positives, self._settings.normaliser), np.cumsum(list(map(len, of_parts)))[:-1])
        made = []
        for part, (labels, positive_rows, targets), of_part in zip(of_parts, assigned, weight, strict=True):
            flat = [image * labels.shape[1] + of_image for image, of_image in enumerate(positive_rows)]
            images, ids = [example.image for _, example in part], [image_id for image_id, _ in part]
            made.append(DensePart(images, ids, labels, np.concatenate(flat), np.concatenate(targets), of_part))
        return made

    def _assigned(
        self, examples: list[Example]
    ) -> tuple[NDArray[np.int64], list[NDArray[np.int64]], list[NDArray[np.float32]]]:
        """int64 (N, A) labels; of each image the rows of its positives, and their targets."""
        height, width = (max(example.image.shape[axis] for example in examples) for axis in (0, 1))
        anchors, matching = self._head.anchors(width, height), self._settings.matching
        labels, rows, targets = [], [], []
        for example in examples:
            assigned = assign(anchors, example.boxes, matching.positive, matching.negative, matching.best)
            positive = np.flatnonzero(assigned.label == POSITIVE)
            owners = assigned.object[positive]
            of_image = assigned.label.astype(np.int64)
            of_image[positive] = example.labels[owners] + 1
            labels.append(of_image)
            rows.append(positive)
            targets.append(encode(anchors[positive], example.boxes[owners]) / self._head.form.scaling)
        return np.stack(labels), rows, targets


def weights(positives: Sequence[int], normaliser: str) -> NDArray[np.float32]:
    """float32 (images of the batch,): what the losses of each are multiplied by; see `DenseTraining.normaliser`.

    positives : anchors of each
    """
    counts = np.array(positives)
    if normaliser == "batch":
        return np.full(len(counts), 1 / max(counts.sum(), 1), np.float32)
    return (1 / counts.clip(min=1) / len(counts)).astype(np.float32)


def part_losses(
    network: DenseNetwork[DenseHead], trunk: nn.Module, part: DensePart, settings: DenseTraining, device: Device
) -> training.Part:
    """The losses of a part of a batch, each its share of the loss of the batch. trunk : see `trained_trunk`

    Raises ValueError where the network has other anchors than those that were assigned.
    """
    scores, deltas, _ = network.head(trunk(to_batch(part.images, network.recipe, device)))
    if scores.shape[:2] != part.labels.shape:
        raise ValueError(f"{scores.shape[1]} anchors of the network for {part.labels.shape[1]} that were assigned")
    weight, rows = device.put(part.weight), device.put(part.rows)
    of_images = settings.loss(scores, device.put(part.labels))
    predicted, targets = deltas.float().flatten(0, 1)[rows], device.put(part.targets)
    errors = functional.smooth_l1_loss(predicted, targets, reduction="none", beta=settings.beta).sum(dim=1)
    boxes = (errors * weight[rows // deltas.shape[1]]).sum()
    return training.Part({
        "classification": (of_images * weight).sum(), "boxes": settings.box_weight * boxes,
    }, part.ids)


def one_view(scale: Sizing, where: str) -> None:
    """Raises InputError where a `Scale` has several sizes."""
    if isinstance(scale, Scale) and len(scale.short_side) != 1:
        problem, remedy = f"short_side is {scale.short_side}", "Give one; the anchors are the scales"
        raise InputError([Fault("bad scale", f"params.yaml: {where}.scale", problem, "one size", remedy)])


def anchor_fit(image_set: ImageSet, head: DenseHead, settings: DenseTraining, where: str) -> AnchorFit:
    """Best IoU of every object with any anchor of its image, as the network sees it without augmentation."""
    def images() -> Iterator[tuple[str, Boxes, Boxes, NDArray[np.int64]]]:
        for image_id in image_set.ids:
            view, (objects, labels) = settings.scale.view(*image_set.size(image_id)), image_set.objects(image_id)
            yield image_id, head.anchors(view.width, view.height), view.boxes(objects), labels
    return fit(images(), image_set.classes, settings.matching.positive, where)


def dense_task(given: Given, backbone: Backbone, head: DenseHead, where: str) -> Task:
    """The training of a head on M0's trunk; a pass is over all images.

    where : the params of the anchors, for cautions
    """
    images = given.images
    settings = given.settings.resolved(len(images), given.settings.images)
    one_view(settings.scale, given.block)
    network = DenseNetwork(backbone, head)
    trunk = trained_trunk(backbone, network.levels, settings.frozen, given.device.torch_device)
    batches = DenseBatches(images, head, backbone.recipe.mean, settings, given.seed, given.stage)
    anchors = anchor_fit(images, head, settings, where)
    return Task(
        network,
        once(settings, [head], batches, lambda part: part_losses(network, trunk, part, settings, given.device)),
        settings.steps,
        lambda: contents(backbone, images.classes, settings.scale, head),
        f"{settings.steps} iterations of {settings.images} images",
        cautions=anchors.cautions, plots={"anchors": anchors.classes},
    )
