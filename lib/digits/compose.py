"""Images of the default data set: handwritten digits painted onto photographs, each with its boxes.

Train, val and test share no sample of scikit-learn's `load_digits`; test backgrounds come from another part
of the photographs than those of train and val. A digit's ink is where its alpha mask is above 0.5.
What is no digit, letters and scribbles, has draws of its own: without it the digits stand where they stood.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lib.digits.exact import power, resized, uniform
from lib.digits.ink import paint, render
from lib.digits.marks import glyph, scribble
from lib.digits.place import bounds, place, visible
from lib.digits.recipe import Recipe

CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("train", "val", "test")


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
    scale = largest * uniform(rng, recipe.crop_min, 1)
    width, height = int(recipe.width * scale), int(recipe.height * scale)
    x = int(rng.integers(part.shape[1] - width + 1))
    y = int(rng.integers(part.shape[0] - height + 1))
    crop = part[y : y + height, x : x + width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    enlarged = resized(crop.astype(np.float64), recipe.height, recipe.width)
    return np.clip(np.rint(enlarged), 0, 255).astype(np.uint8)


def compose(
    recipe: Recipe, split: str, index: int,
    photos: Sequence[np.ndarray], samples: np.ndarray, samples_of_class: list[np.ndarray],
) -> Picture:
    """Image `index` of a split, a pure function of (seed, split, index) and the arguments below.

    photos           : uint8 (h, w, 3), the photographs
    samples          : float (S, 8, 8)
    samples_of_class : ten int arrays, the numbers of the split's samples
    """
    key = [recipe.seed, SPLITS.index(split), index]
    rng, clutter = (np.random.Generator(np.random.PCG64(words)) for words in (key, [*key, 1]))
    image = background(photos[int(rng.integers(len(photos)))], recipe, split, rng)
    for _ in range(int(clutter.integers(recipe.scribbles_max + 1))):
        image = paint(image, scribble(recipe.height, recipe.width, clutter), recipe.contrast / 2, clutter)
    scene = _Scene(recipe, image)
    for _ in range(int(rng.integers(recipe.digits_min, recipe.digits_max + 1))):
        label = int(rng.integers(len(CLASSES)))
        sample = int(rng.choice(samples_of_class[label]))
        scene.add(samples[sample], (sample, CLASSES[label]), rng)
    for _ in range(int(clutter.integers(recipe.letters_max + 1))):
        scene.add(glyph(clutter), None, clutter)
    return Picture(scene.image, scene.digits())


class _Scene:
    """An image that is being painted.

    inks  : bool (height, width) each, what was painted, letters too;  whole : pixels of each, those outside counted
    names : sample and class of each digit, None for a letter
    """

    def __init__(self, recipe: Recipe, image: np.ndarray) -> None:
        self.recipe, self.image = recipe, image
        self.inks: list[np.ndarray] = []
        self.whole: list[int] = []
        self.names: list[tuple[int, str] | None] = []

    def add(self, sample: np.ndarray, name: tuple[int, str] | None, rng: np.random.Generator) -> None:
        """Paints one more, where there is room for it."""
        recipe = self.recipe
        size = recipe.size_min * power(recipe.size_max / recipe.size_min, rng.random())
        turn = uniform(rng, -recipe.rotation_deg, recipe.rotation_deg)
        mask = render(sample, size, turn, uniform(rng, 0, recipe.blur_px))
        total = int((mask > 0.5).sum())
        placed = place(mask, self.inks, [*self.whole, total], recipe, rng)
        if placed is not None:
            self.image = paint(self.image, placed, recipe.contrast, rng)
            self.inks.append(placed > 0.5)
            self.whole.append(total)
            self.names.append(name)

    def digits(self) -> list[Digit]:
        """What was painted and is no letter."""
        described = zip(self.names, visible(self.inks), self.inks, self.whole, strict=True)
        return [
            Digit(*name, bounds(part), float(part.sum() / total), bool(ink.sum() < total))
            for name, part, ink, total in described if name
        ]
