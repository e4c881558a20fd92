"""Where a digit may stand: alone, cut by the border, over another one or beside it."""

import numpy as np

from lib.digits.exact import Field, uniform
from lib.digits.recipe import Recipe


def place(
    mask: Field, inks: list[np.ndarray], whole: list[int], recipe: Recipe, rng: np.random.Generator
) -> Field | None:
    """The mask on a canvas of the image's size; None where no position leaves every digit enough visible ink."""
    height, width = mask.shape
    chance = rng.random()  # one number for all three, so that a digit is never cut and over another one
    edges = recipe.cut, recipe.cut + recipe.overlap, recipe.cut + recipe.overlap + recipe.touching
    cut, beside = chance < edges[0], bool(inks) and edges[1] <= chance < edges[2]
    over = bool(inks) and edges[0] <= chance < edges[1]
    taken = np.zeros((recipe.height, recipe.width), bool)
    for ink in inks:
        x1, y1, x2, y2 = bounds(ink)
        taken[max(y1 - 2, 0) : y2 + 2, max(x1 - 2, 0) : x2 + 2] = True
    for attempt in range(120):
        if attempt == 60:  # neither cut nor at another digit from here on, so that no image stays empty
            cut = over = beside = False
        x, y = rng.integers(recipe.width - width + 1), rng.integers(recipe.height - height + 1)
        if cut:
            out = uniform(rng, 0.1, 1 - recipe.visible_min)
            side = int(rng.integers(4))
            x = [x, x, -out * width, recipe.width - (1 - out) * width][side]
            y = [-out * height, recipe.height - (1 - out) * height, y, y][side]
        elif over or beside:
            x1, y1, x2, y2 = bounds(inks[int(rng.integers(len(inks)))])
            y = np.clip(uniform(rng, y1 - 0.7 * height, y2 - 0.3 * height), 0, recipe.height - height)
            x = uniform(rng, x1 - 0.7 * width, x2 - 0.3 * width) if over else _beside(x1, x2, width, rng)
            x = np.clip(x, 0, recipe.width - width)
        canvas = _shifted(mask, int(x), int(y), taken.shape)
        ink = canvas > 0.5
        free = over or beside or not _part(taken, bounds(ink)).any()
        if not free or ink.sum() < recipe.visible_min * whole[-1]:
            continue
        visible_parts = zip(visible([*inks, ink]), whole, strict=True)
        if all(part.sum() >= recipe.visible_min * total for part, total in visible_parts):
            return canvas
    return None


def _beside(x1: int, x2: int, width: int, rng: np.random.Generator) -> int:
    """Left edge of a digit left or right of the columns x1 to x2."""
    gap = int(rng.integers(-2, 3))
    return x2 + gap if rng.integers(2) else x1 - width - gap


def _shifted(mask: np.ndarray, x: int, y: int, shape: tuple[int, ...]) -> np.ndarray:
    canvas = np.zeros(shape)
    inside = mask[max(-y, 0) : max(shape[0] - y, 0), max(-x, 0) : max(shape[1] - x, 0)]
    canvas[max(y, 0) : max(y, 0) + inside.shape[0], max(x, 0) : max(x, 0) + inside.shape[1]] = inside
    return canvas


def visible(inks: list[np.ndarray]) -> list[np.ndarray]:
    """Each digit's ink less that of those painted later."""
    return [ink & ~np.any([*inks[position + 1 :], np.zeros_like(ink)], axis=0) for position, ink in enumerate(inks)]


def _part(canvas: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    x1, y1, x2, y2 = box
    return canvas[y1:y2, x1:x2]


def bounds(ink: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
