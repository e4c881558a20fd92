"""What trainings on whole images share: their settings, batches of augmented images, the trunk.

N images of a batch, H W sides of an image.
"""

import numpy as np
import torch
from pydantic import Field
from torch import nn

from lib.backbones.backbones import Backbone
from lib.backbones.device import Precision
from lib.backbones.frozen import freeze_norms
from lib.backbones.levels import Levels
from lib.backbones.scaling import Scale, Square
from lib.detectors.dense.augment import Example, ImageAugmentation
from lib.images.image_set import ImageSet
from lib.training import loop as training
from lib.training.frozen_norm import through_frozen_norm
from lib.training.optimisation import Optimisation
from lib.training.order import images_of


class WholeImages(Optimisation):
    """The optimisation, and

    scale     : of the images: one size, or a square
    images    : of a batch
    frozen    : leading parts of the trunk that are not trained
    augment   : see `ImageAugmentation`
    precision : of the forward passes
    """

    scale: Scale | Square
    images: int = Field(ge=1)
    frozen: int = Field(ge=0)
    augment: ImageAugmentation
    precision: Precision


class Examples:
    """The augmented images of one training, batch by batch; those of batch i are a pure function of (seed, stage, i).

    fill : RGB colour where there is no image, see `ImageAugmentation`
    """

    def __init__(
        self, image_set: ImageSet, fill: tuple[float, ...], settings: WholeImages, seed: int, stage: str
    ) -> None:
        self._image_set, self._fill = image_set, fill
        self._whole = settings
        self._seed, self._stage = seed, stage

    def parts(self, i: int) -> list[list[tuple[str, Example]]]:
        """The images of batch i, each with its key, in parts of about the same number."""
        count = self._whole.images
        ids = [self._image_set.ids[row]
               for row in images_of(self._seed, self._stage, i, count, len(self._image_set))]
        examples = [(image_id, self.example(i * count + place, image_id)) for place, image_id in enumerate(ids)]
        rows = np.array_split(np.arange(count), min(self._whole.parts, count))
        return [[examples[row] for row in of_part] for of_part in rows]

    def example(self, number: int, image_id: str) -> Example:
        """An image as the network sees it. number : of the image in the training, from 0, which decides all draws"""
        random = training.generator(self._seed, f"{self._stage} augmentation", number)
        example = Example(self._image_set.image(image_id), *self._image_set.objects(image_id))
        return self._whole.augment(example, self._whole.scale, self._fill, random)


def trained_trunk(backbone: Backbone, levels: Levels, frozen: int, torch_device: torch.device) -> nn.Module:
    """The maps of the trunk as they are made in training: its first `frozen` parts without gradient, batch norm frozen
    and folded into the convolutions. It shares its parameters with the backbone, and is moved to the device."""
    for part in list(backbone.trunk)[:frozen]:
        part.requires_grad_(False)
    freeze_norms(levels)
    levels.to(torch_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return through_frozen_norm(levels.eval())
