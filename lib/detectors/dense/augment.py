"""Augmentation of whole images (SSD §2.2 and §3.6; the authors' im_transforms.cpp and sampler.cpp).

Every draw comes from a generator that the caller makes from (seed, stage, image of the training), and each step has
one of its own: what another step draws is the same with it and without.
K objects of an image.
"""

from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.scaling import Sizing, View
from lib.boxes.boxes import Boxes, clip, flip, iou
from lib.stage.params import Settings

TRIALS = 50  # to draw a patch for a minimum IoU
BRIGHTNESS, HUE_STEPS = 32, 18  # grey levels; steps of 2 degrees
INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)


class Example(NamedTuple):
    """An image with its objects.

    image  : uint8 (H, W, 3) RGB;  boxes : float32 (K, 4) in its pixels, inside it, with area;  labels : int64 (K,)
    """

    image: NDArray[np.uint8]
    boxes: Boxes
    labels: NDArray[np.int64]


class ImageAugmentation(Settings):
    """Base of a method's augmentation."""

    def __call__(
        self, example: Example, scale: Sizing, fill: tuple[float, ...], random: np.random.Generator
    ) -> Example:
        """The example as the network sees it.

        scale : of the network's images;  fill : RGB colour where there is no image;  random : decides all draws
        """
        raise NotImplementedError


class Augmentation(ImageAugmentation):
    """Which steps run, in this order; each that is drawn at all is applied to half of the images.

    photometric   : brightness, contrast, saturation and hue, each in half of the images
    expand        : largest side of a canvas of the mean colour, on which the image lies, in sides of the image; 1: none
                    (authors: 4)
    crops         : minimum IoU of a patch with an object; one of these patches, or the whole image, is taken; 0: any
                    patch; none: no cropping (authors: 0.1, 0.3, 0.5, 0.7, 0.9, 0)
    interpolation : how the image is scaled is drawn from five ways (authors); false: linear
    mirror        : probability of mirroring (paper: 0.5)
    """

    photometric: bool
    expand: float = Field(ge=1)
    crops: list[Annotated[float, Field(ge=0, le=1)]]
    interpolation: bool
    mirror: float = Field(ge=0, le=1)

    def __call__(
        self, example: Example, scale: Sizing, fill: tuple[float, ...], random: np.random.Generator
    ) -> Example:
        """See `ImageAugmentation`."""
        example = augmented(example, self, fill, random)
        return scaled(example, scale.view(example.image.shape[1], example.image.shape[0]), self, random)


def augmented(
    example: Example, settings: Augmentation, fill: tuple[float, ...], random: np.random.Generator
) -> Example:
    """The example after all steps but the scaling, which is `scaled`. fill : RGB colour round an expanded image"""
    photometric, expanding, cropping, mirroring = random.spawn(4)
    if settings.photometric:
        example = example._replace(image=distorted(example.image, photometric))
    if settings.expand > 1 and expanding.random() < 0.5:
        example = expanded(example, settings.expand, fill, expanding)
    if settings.crops:
        example = cropped(example, settings.crops, cropping)
    return mirrored(example) if mirroring.random() < settings.mirror else example


def scaled(example: Example, view: View, settings: Augmentation, random: np.random.Generator) -> Example:
    """The example as the network sees it. view : of images of its size"""
    boxes = view.boxes(example.boxes)
    if not settings.interpolation:
        return example._replace(image=view.image(example.image), boxes=boxes)
    way = INTERPOLATIONS[random.integers(len(INTERPOLATIONS))]
    image = cv2.resize(example.image, (view.width, view.height), interpolation=way)
    return example._replace(image=np.asarray(image, np.uint8), boxes=boxes)


def distorted(image: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) RGB: brightness, then saturation and hue, with contrast before them or behind them.

    Values are cut to 0 and 255 after every step, a hue below 0 too, as in the authors' code.
    """
    contrast_first = random.random() > 0.5
    drawn = random.random(4) < 0.5
    shift, hue = random.uniform(-BRIGHTNESS, BRIGHTNESS), random.uniform(-HUE_STEPS, HUE_STEPS)
    contrast, saturation = random.uniform(0.5, 1.5, 2)
    image = tone(image, 1, shift) if drawn[0] else image
    image = tone(image, contrast, 0) if drawn[1] and contrast_first else image
    if drawn[2] or drawn[3]:
        hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
        if drawn[2]:
            hsv[..., 1] = tone(hsv[..., 1], saturation, 0)
        if drawn[3]:
            hsv[..., 0] = tone(hsv[..., 0], 1, hue)
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
    return tone(image, contrast, 0) if drawn[1] and not contrast_first else image


def tone(values: NDArray[np.uint8], factor: float, shift: float) -> NDArray[np.uint8]:
    """uint8, any shape: each value times the factor, plus the shift, rounded, cut to 0 and 255."""
    table = np.clip(np.rint(np.arange(256) * factor + shift), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(values), table), np.uint8)


def expanded(
    example: Example, largest: float, fill: tuple[float, ...], random: np.random.Generator
) -> Example:
    """The image somewhere on a canvas of 1 to `largest` times its sides."""
    height, width = example.image.shape[:2]
    ratio = random.uniform(1, largest)
    sides = int(height * ratio), int(width * ratio)
    top, left = int(random.uniform(0, sides[0] - height)), int(random.uniform(0, sides[1] - width))
    canvas = np.empty((*sides, 3), np.uint8)
    canvas[:] = np.rint(fill).astype(np.uint8)
    canvas[top : top + height, left : left + width] = example.image
    return example._replace(image=canvas, boxes=moved(example.boxes, left, top))


def cropped(example: Example, minima: list[float], random: np.random.Generator) -> Example:
    """The whole image, or one of the patches that were drawn for the minima, each with the same probability.

    A patch has 0.3 to 1 of the image's sides and half to twice its aspect ratio, and overlaps at least one object by
    the minimum; where none of the trials does, there is no patch for it. An image without objects stays whole.
    """
    height, width = example.image.shape[:2]
    patches = [np.array([0, 0, width, height], np.float32)]
    for minimum in minima if len(example.boxes) else []:
        drawn = _patches(width, height, random)
        accepted = np.flatnonzero(iou(drawn, example.boxes).max(axis=1) >= minimum)
        patches += [drawn[accepted[0]]] if len(accepted) else []
    return cut(example, patches[random.integers(len(patches))])


def _patches(width: int, height: int, random: np.random.Generator) -> Boxes:
    scale, ratio = random.uniform(0.3, 1, TRIALS), random.uniform(0.5, 2, TRIALS)
    ratio = ratio.clip(scale**2, scale**-2)  # else a side would be longer than the image's
    sides = np.stack([scale * np.sqrt(ratio), scale / np.sqrt(ratio)], axis=1).clip(max=1)
    corner = random.random((TRIALS, 2)) * (1 - sides)
    return (np.hstack([corner, corner + sides]) * [width, height, width, height]).astype(np.float32)


def cut(example: Example, patch: Boxes) -> Example:
    """The part of an image in a patch, float32 (4,), whose corner and sides are cut to whole pixels.

    Objects whose centre lies in it stay, its border included, clipped to it, each with its label; K may become 0.
    """
    left, top = int(patch[0]), int(patch[1])
    width, height = max(int(patch[2] - patch[0]), 1), max(int(patch[3] - patch[1]), 1)
    boxes = moved(example.boxes, -left, -top)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    boxes = clip(boxes, width, height)
    stays = ((centres >= 0) & (centres <= [width, height])).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    image = np.ascontiguousarray(example.image[top : top + height, left : left + width])
    return Example(image, boxes[stays], example.labels[stays])


def moved(boxes: Boxes, right: int, down: int) -> Boxes:
    """float32 (K, 4): the boxes, so many pixels further right and down."""
    return boxes + np.array([right, down, right, down], np.float32)


def mirrored(example: Example) -> Example:
    """Left and right exchanged, in the image and in its boxes."""
    image = np.ascontiguousarray(example.image[:, ::-1])
    return example._replace(image=image, boxes=flip(example.boxes, image.shape[1]))
