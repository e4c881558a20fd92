"""Images of the default data set: handwritten digits painted onto photographs, each with its boxes.

Train, val and test share no sample of scikit-learn's `load_digits`; test backgrounds come from another part
of the photographs than those of train and val. A digit's ink is where its alpha mask is above 0.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from lib.digits.ink import paint, render
from lib.stage.errors import Fault, InputError
from lib.stage.params import Seed

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Recipe:
    """Every number of the set. Shares are in [0, 1], lengths in pixels."""

    seed: Seed
    train: int  # images of the split
    val: int
    test: int
    width: int  # of an image
    height: int
    digits_min: int  # per image, uniform; fewer where no free position is found, never none
    digits_max: int
    size_min: int  # longer side of the upright digit's ink, log-uniform
    size_max: int
    rotation_deg: float  # largest turn to either side
    blur_px: float  # largest sigma of the edge blur
    contrast: float  # least distance of the ink from the mean around it, grey levels of 255, at most 127
    cut: float  # share of digits placed across the border
    overlap: float  # share of digits placed over another one
    visible_min: float  # a digit keeps at least this share of its ink
    difficult_below: float  # difficult where less than this share of the ink is visible, cut and covered counted alike
    background_split: float  # left share of each photograph for train and val; the rest is for test
    crop_min: float  # smallest background crop, as a share of the largest that fits
    jpeg_quality: int

    def __post_init__(self) -> None:
        faults = [
            Fault("bad setting", f"digits.{low}", f"is {getattr(self, low)}",
                  f"at most digits.{high}, which is {getattr(self, high)}", "Change one of them")
            for low, high in [("digits_min", "digits_max"), ("size_min", "size_max")]
            if getattr(self, low) > getattr(self, high)
        ]
        if self.size_max > min(self.width, self.height) // 2:
            faults.append(Fault("bad setting", "digits.size_max", f"is {self.size_max}",
                                "at most half the image's shorter side",
                                "Lower it, or raise digits.width and digits.height"))
        if faults:
            raise InputError(faults)


@dataclass(frozen=True)
class Digit:
    """One painted digit.

    sample : index into `load_digits`
    name   : class
    box    : int x1 y1 x2 y2, 0-based, half-open: tight around the visible ink
    visible : share of the whole ink that is visible;  truncated : some of the ink lies outside the image
    """

    sample: int
    name: str
    box: tuple[int, int, int, int]
    visible: float
    truncated: bool


@dataclass(frozen=True)
class Picture:
    """A composed image, uint8 (height, width, 3) RGB, and the digits in it, the first painted first."""

    image: np.ndarray
    digits: list[Digit]


def divide_samples(recipe: Recipe, labels: np.ndarray) -> dict[str, list[np.ndarray]]:
    """The samples of each split and class: disjoint blocks, in proportion to the splits' numbers of images.

    labels  : int (S,)  class of each sample, 0 to 9
    returns : split -> ten int arrays of sample numbers

    Blocks of the original order and not a shuffle: neighbours were written by the same hand.
    """
    counts = np.array([getattr(recipe, split) for split in SPLITS], np.float64)
    edges = np.cumsum(counts) / counts.sum()
    blocks_of_split: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for digit in range(len(CLASSES)):
        samples = np.flatnonzero(labels == digit)
        blocks = np.split(samples, np.round(edges[:-1] * len(samples)).astype(int))
        for split, block in zip(SPLITS, blocks, strict=True):
            blocks_of_split[split].append(block)
    return blocks_of_split


def background(photo: np.ndarray, recipe: Recipe, split: str, rng: np.random.Generator) -> np.ndarray:
    """A crop of the split's part of a photograph, scaled to the image's size, mirrored half the time."""
    border = round(photo.shape[1] * recipe.background_split)
    part = photo[:, border:] if split == "test" else photo[:, :border]
    largest = min(part.shape[1] / recipe.width, part.shape[0] / recipe.height)
    scale = largest * rng.uniform(recipe.crop_min, 1)
    width, height = int(recipe.width * scale), int(recipe.height * scale)
    x = int(rng.integers(part.shape[1] - width + 1))
    y = int(rng.integers(part.shape[0] - height + 1))
    crop = part[y : y + height, x : x + width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    method = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(np.ascontiguousarray(crop), (recipe.width, recipe.height), interpolation=method)


def compose(
    recipe: Recipe, split: str, index: int,
    photos: Sequence[np.ndarray], samples: np.ndarray, samples_of_class: list[np.ndarray],
) -> Picture:
    """Image `index` of a split, a pure function of (seed, split, index) and the arguments below.

    photos           : uint8 (h, w, 3), the photographs
    samples          : float (S, 8, 8)
    samples_of_class : ten int arrays, the numbers of the split's samples
    """
    rng = np.random.Generator(np.random.PCG64([recipe.seed, SPLITS.index(split), index]))
    image = background(photos[int(rng.integers(len(photos)))], recipe, split, rng)
    painted: list[tuple[int, int]] = []
    inks: list[np.ndarray] = []
    whole: list[int] = []
    for _ in range(int(rng.integers(recipe.digits_min, recipe.digits_max + 1))):
        label = int(rng.integers(len(CLASSES)))
        sample = int(rng.choice(samples_of_class[label]))
        size = float(np.exp(rng.uniform(np.log(recipe.size_min), np.log(recipe.size_max))))
        turn = rng.uniform(-recipe.rotation_deg, recipe.rotation_deg)
        mask = render(samples[sample], size, turn, rng.uniform(0, recipe.blur_px))
        total = int((mask > 0.5).sum())
        placed = _place(mask, inks, [*whole, total], recipe, rng)
        if placed is None:
            continue
        image = paint(image, placed, recipe.contrast, rng)
        painted.append((sample, label))
        inks.append(placed > 0.5)
        whole.append(total)
    seen = _visible(inks)
    digits = [
        Digit(sample, CLASSES[label], _bounds(part), float(part.sum() / total), bool(ink.sum() < total))
        for (sample, label), part, ink, total in zip(painted, seen, inks, whole, strict=True)
    ]
    return Picture(image, digits)


def _place(
    mask: np.ndarray, inks: list[np.ndarray], whole: list[int], recipe: Recipe, rng: np.random.Generator
) -> np.ndarray | None:
    """The mask on a canvas of the image's size; None where no position leaves every digit enough visible ink."""
    height, width = mask.shape
    chance = rng.random()  # one number for both, so that a digit is never cut and over another one
    cut, over = chance < recipe.cut, bool(inks) and recipe.cut <= chance < recipe.cut + recipe.overlap
    taken = np.zeros((recipe.height, recipe.width), bool)
    for ink in inks:
        x1, y1, x2, y2 = _bounds(ink)
        taken[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
    for attempt in range(120):
        if attempt == 60:  # neither cut nor over another digit from here on, so that no image stays empty
            cut = over = False
        x, y = rng.integers(recipe.width - width + 1), rng.integers(recipe.height - height + 1)
        if cut:
            out = rng.uniform(0.1, 1 - recipe.visible_min)
            side = int(rng.integers(4))
            x = [x, x, -out * width, recipe.width - (1 - out) * width][side]
            y = [-out * height, recipe.height - (1 - out) * height, y, y][side]
        elif over:
            x1, y1, x2, y2 = _bounds(inks[int(rng.integers(len(inks)))])
            x = np.clip(rng.uniform(x1 - 0.7 * width, x2 - 0.3 * width), 0, recipe.width - width)
            y = np.clip(rng.uniform(y1 - 0.7 * height, y2 - 0.3 * height), 0, recipe.height - height)
        canvas = _shifted(mask, int(x), int(y), taken.shape)
        ink = canvas > 0.5
        if ink.sum() < recipe.visible_min * whole[-1] or (not over and _part(taken, _bounds(ink)).any()):
            continue
        visible_parts = zip(_visible([*inks, ink]), whole, strict=True)
        if all(part.sum() >= recipe.visible_min * total for part, total in visible_parts):
            return canvas
    return None


def _shifted(mask: np.ndarray, x: int, y: int, shape: tuple[int, ...]) -> np.ndarray:
    canvas = np.zeros(shape, np.float32)
    inside = mask[max(-y, 0) : max(shape[0] - y, 0), max(-x, 0) : max(shape[1] - x, 0)]
    canvas[max(y, 0) : max(y, 0) + inside.shape[0], max(x, 0) : max(x, 0) + inside.shape[1]] = inside
    return canvas


def _visible(inks: list[np.ndarray]) -> list[np.ndarray]:
    """Each digit's ink less that of those painted later."""
    return [ink & ~np.any([*inks[position + 1 :], np.zeros_like(ink)], axis=0) for position, ink in enumerate(inks)]


def _part(canvas: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    x1, y1, x2, y2 = box
    return canvas[y1:y2, x1:x2]


def _bounds(ink: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
