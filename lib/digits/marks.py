"""What stands in the images and is no digit: letters and signs, as handwritten as the digits, and scribbles."""

import numpy as np

from lib.digits.exact import Field, distance, uniform

Lines = list[list[tuple[float, float]]]
# On a grid of 0 to 8, y downwards. None can be read as a digit: no O, I, S, Z, B, G, Q.
GLYPHS: dict[str, Lines] = {
    "A": [[(1, 8), (4, 0), (7, 8)], [(2, 5), (6, 5)]],
    "E": [[(7, 0), (1, 0), (1, 8), (7, 8)], [(1, 4), (6, 4)]],
    "F": [[(7, 0), (1, 0), (1, 8)], [(1, 4), (6, 4)]],
    "H": [[(1, 0), (1, 8)], [(7, 0), (7, 8)], [(1, 4), (7, 4)]],
    "K": [[(1, 0), (1, 8)], [(7, 0), (1, 4), (7, 8)]],
    "L": [[(1, 0), (1, 8), (7, 8)]],
    "M": [[(0, 8), (1, 0), (4, 5), (7, 0), (8, 8)]],
    "N": [[(1, 8), (1, 0), (7, 8), (7, 0)]],
    "P": [[(1, 8), (1, 0), (5, 0), (7, 2), (5, 4), (1, 4)]],
    "R": [[(1, 8), (1, 0), (5, 0), (7, 2), (5, 4), (1, 4)], [(4, 4), (7, 8)]],
    "T": [[(0, 0), (8, 0)], [(4, 0), (4, 8)]],
    "U": [[(1, 0), (1, 6), (3, 8), (5, 8), (7, 6), (7, 0)]],
    "V": [[(0, 0), (4, 8), (8, 0)]],
    "W": [[(0, 0), (2, 8), (4, 3), (6, 8), (8, 0)]],
    "X": [[(1, 0), (7, 8)], [(7, 0), (1, 8)]],
    "Y": [[(0, 0), (4, 4), (8, 0)], [(4, 4), (4, 8)]],
    "+": [[(4, 1), (4, 7)], [(1, 4), (7, 4)]],
    "=": [[(1, 3), (7, 3)], [(1, 6), (7, 6)]],
    "?": [[(1, 2), (3, 0), (5, 0), (7, 2), (4, 4), (4, 6)], [(4, 8), (4, 8.2)]],
}


def glyph(rng: np.random.Generator) -> np.ndarray:
    """A letter or sign as `load_digits` would hold it, int64 (8, 8), 0 to 16: pixels with ink in 4 x 4 of 32 x 32."""
    lines = GLYPHS[list(GLYPHS)[int(rng.integers(len(GLYPHS)))]]
    narrow, thick = uniform(rng, 0.6, 1.0), uniform(rng, 1.4, 2.4)
    ink = np.zeros((32, 32), bool)
    for line in lines:
        moved = [
            (16 + (x - 4 + uniform(rng, -0.5, 0.5)) * 3 * narrow, 16 + (y - 4 + uniform(rng, -0.5, 0.5)) * 3)
            for x, y in line
        ]
        ink |= distance(32, 32, moved) < thick
    return ink.reshape(8, 4, 8, 4).sum(axis=(1, 3))


def scribble(height: int, width: int, rng: np.random.Generator) -> Field:
    """The alpha mask of a bent line of a pen, a third of the image long or more; float64 (height, width) in [0, 1]."""
    points = [(uniform(rng, 0, width), uniform(rng, 0, height))]
    for _ in range(int(rng.integers(2, 5))):
        x, y = points[-1]
        points.append((x + uniform(rng, -0.4, 0.4) * width, y + uniform(rng, -0.4, 0.4) * height))
    return np.clip(uniform(rng, 0.6, 2.2) + 0.5 - distance(height, width, points), 0, 1)
