"""Histograms of oriented gradients of a whole image: Dalal and Triggs' blocks, or Felzenszwalb's cells.

Dalal, Triggs: Histograms of Oriented Gradients for Human Detection, CVPR 2005. Felzenszwalb et al., PAMI 2010, in the
form of the authors' voc-dpm. The kernels are in `kernels`. H, W sides of an image in pixels, D features of a place.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.detectors.hog import kernels
from lib.stage.params import Settings

Features = NDArray[np.float32]
ROOTS = np.sqrt(np.arange(256, dtype=np.float32))


class Pixels(Settings):
    """What is done to an image before its gradients are taken, and the side of a cell.

    cell      : pixels (paper: 8)
    colour    : rgb, where the channel of the largest gradient counts in each pixel, or grey (paper: rgb)
    gamma     : none, or sqrt: the root of each channel (paper: none; OpenCV: sqrt)
    smoothing : sigma of a Gaussian, pixels; 0: none (paper: 0)
    """

    cell: int = Field(ge=2, le=32)
    colour: Literal["rgb", "grey"]
    gamma: Literal["none", "sqrt"]
    smoothing: float = Field(ge=0)

    def planes(self, image: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 or float32 (channels, H, W): what gradients are taken of. image : uint8 (H, W, 3) RGB"""
        if self.colour == "grey":
            planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[None]
        else:
            planes = np.empty((3, *image.shape[:2]), np.uint8)
            cv2.split(image, list(planes))
        values = ROOTS[planes] if self.gamma == "sqrt" else planes
        if not self.smoothing:
            return values
        blurred = [cv2.GaussianBlur(plane, (0, 0), self.smoothing) for plane in values.astype(np.float32)]
        return np.stack(blurred).astype(np.float32)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of cells of an image of these sides: half a cell or more counts as one, less is left out."""
        rows, columns = ((2 * side + self.cell) // (2 * self.cell) for side in (height, width))
        return rows, columns


class DalalTriggs(Pixels):
    """`hog.descriptor` with blocks of cells that overlap by all but one cell, and

    block   : cells a side (paper: 2);  bins : of the angle (paper: 9)
    signed  : angles over 360 degrees, not 180 (paper: no)
    votes   : soft: shared between neighbouring bins and cells; hard: each pixel votes in one (paper: soft)
    window  : sigma of a Gaussian over the block, in sides of the block; null: none (paper: 0.5)
    norm    : of a block (paper: l2hys)
    clip    : of l2hys: values are cut to it after the first norm (paper: 0.2)
    epsilon : added to the norm, grey levels summed over a block's pixels (paper: any small value; OpenCV: 3.6)
    """

    name: Literal["dalal_triggs"]
    block: int = Field(ge=1, le=8)
    bins: int = Field(ge=2, le=36)
    signed: bool
    votes: Literal["soft", "hard"]
    window: float | None = Field(gt=0)
    norm: Literal["none", "l1", "l1sqrt", "l2", "l2hys"]
    clip: float = Field(gt=0, le=1)
    epsilon: float = Field(gt=0)

    first: ClassVar[int] = 0  # cell with which the first place begins
    mark: ClassVar[slice] = slice(0, 0)  # features that say that a place is outside the image

    @property
    def width(self) -> int:
        """D, numbers of a block: its cells row by row, in each the bins."""
        return self.block**2 * self.bins

    @property
    def beyond(self) -> int:
        """By how many cells a window of so many places is larger."""
        return self.block - 1

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of blocks in so many cells; 0 where none fits."""
        return max(rows - self.block + 1, 0), max(columns - self.block + 1, 0)

    @cached_property
    def layout(self) -> "Layout":
        """The same for the kernel."""
        side = self.block * self.cell
        window = None if self.window is None else (self.window * side, (side - 1) / 2)
        inside, outside = (0.0, 0.0), (0.0, 0.0)
        if self.norm.startswith("l1"):
            outside = self.epsilon, 0.0
        else:
            inside = self.epsilon**2, 1e-10  # the second norm is of numbers near 1: only 0/0 is kept away
        return Layout(profile(self.cell, self.block, self.votes == "soft", window), inside, outside)

    @property
    def angles(self) -> list[float]:
        """Degrees of the gradients that `by_cell` tells apart."""
        turn = 360 if self.signed else 180
        return [(number + 0.5) * turn / self.bins for number in range(self.bins)]

    def by_cell(self, weights: Features) -> Features:
        """float32 (rows + block - 1, columns + block - 1, B): each cell's weights in all blocks that it is part of.

        weights : float32 (rows, columns, D) of places
        """
        rows, columns, _ = weights.shape
        n = self.block
        cells = np.zeros((rows + n - 1, columns + n - 1, self.bins), np.float32)
        parts = weights.reshape(rows, columns, n, n, self.bins)
        for a, b in np.ndindex(n, n):
            cells[a : a + rows, b : b + columns] += parts[:, :, a, b]
        return cells

    def __call__(self, image: NDArray[np.uint8], layout: "Layout | None" = None) -> Features:
        """float32 (block rows, block columns, D). image : uint8 (H, W, 3); layout : another than the settings' own"""
        layout = layout or self.layout
        rows, columns = self.grid(*image.shape[:2])
        blocks = np.zeros((*self.size(rows, columns), self.width), np.float32)
        if blocks.size:
            slots, weights = layout.slots
            kernels.blocks(
                _extended(self.planes(image), rows * self.cell, columns * self.cell), self.cell, self.bins, self.signed,
                self.votes == "soft", slots, weights, kernels.NORMS.index(self.norm), np.float32(self.clip),
                np.array(layout.inside, np.float32), np.array(layout.outside, np.float32), blocks,
            )
        return blocks


class Felzenszwalb(Pixels):
    """`hog.descriptor` with 18 signed and 9 unsigned directions and 4 sums of texture a cell, and a mark for padding.

    clip : normalised values are cut to it (authors: 0.2)
    """

    name: Literal["felzenszwalb"]
    clip: float = Field(gt=0, le=1)

    width: ClassVar[int] = 32
    first: ClassVar[int] = 1
    beyond: ClassVar[int] = 0
    mark: ClassVar[slice] = slice(31, 32)  # the authors' truncation feature
    angles: ClassVar[list[float]] = [20.0 * number for number in range(9)]  # degrees, of `by_cell`

    def size(self, rows: int, columns: int) -> tuple[int, int]:
        """Rows and columns of described cells: those at the border are lost."""
        return max(rows - 2, 0), max(columns - 2, 0)

    def by_cell(self, weights: Features) -> Features:
        """float32 (rows, columns, 9): each direction's signed and unsigned weights together (voc-dpm, foldHOG)."""
        return np.asarray(weights[:, :, :9] + weights[:, :, 9:18] + weights[:, :, 18:27])

    def __call__(self, image: NDArray[np.uint8]) -> Features:
        """float32 (rows - 2, columns - 2, 32). image : uint8 (H, W, 3)"""
        cells = np.zeros((*self.size(*self.grid(*image.shape[:2])), self.width), np.float32)
        if cells.size:
            kernels.cells(self.planes(image), self.cell, AXES, np.float32(self.clip), cells)
        return cells


Descriptor = Annotated[DalalTriggs | Felzenszwalb, Field(discriminator="name")]
AXES = np.stack([np.cos(np.arange(9) * np.pi / 9), np.sin(np.arange(9) * np.pi / 9)], 1).round(4).astype(np.float32)


@dataclass(frozen=True)
class Layout:
    """What each pixel of a block weighs in each of its cells, and what keeps the norms from 0.

    profile : float32 (n, n cell) what a pixel's position in a block weighs for each cell, along one axis; in the plane
              two of them are multiplied
    inside, outside : added under the root of the first and the second norm, and to the root
    """

    profile: NDArray[np.float32]
    inside: tuple[float, float]
    outside: tuple[float, float]

    @cached_property
    def slots(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """For each pixel of a cell, int64 and float32 (cell, K): cells of blocks that see it, and with what weight.

        A slot is `cell - n back` for a cell of the block that begins `back` cells before; those that are left over
        weigh 0.
        """
        n, cell = len(self.profile), self.profile.shape[1] // len(self.profile)
        seen = [
            [(b - n * back, self.profile[b, back * cell + pixel]) for back in range(n) for b in range(n)
             if self.profile[b, back * cell + pixel]]
            for pixel in range(cell)
        ]
        most = max(map(len, seen))
        padded = np.array([row + [(0, 0.0)] * (most - len(row)) for row in seen])
        return padded[:, :, 0].astype(np.int64), padded[:, :, 1].astype(np.float32)


def profile(cell: int, block: int, soft: bool, window: tuple[float, float] | None) -> NDArray[np.float32]:
    """The `profile` of a `Layout`.

    soft : a vote is shared between the two nearest cells, in proportion; what falls to cells outside the block is lost
    window : sigma and centre of the Gaussian, pixels from the first one; None: no window
    """
    pixels = np.arange(block * cell)
    place = (pixels + 0.5) / cell - 0.5
    distance = np.abs(place - np.arange(block)[:, None])
    weights = np.maximum(1 - distance, 0) if soft else (pixels // cell == np.arange(block)[:, None]).astype(float)
    if window is not None:
        sigma, centre = window
        weights = weights * np.exp(-((pixels - centre) ** 2) / (2 * sigma**2))
    return weights.astype(np.float32)


def _extended(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """At least of these sides, continued by its last row and column: what is beyond the cells is their neighbour."""
    rows, columns = (np.arange(max(sides)) for sides in zip(planes.shape[1:], (height, width), strict=True))
    if planes.shape[1:] == (len(rows), len(columns)):
        return planes
    return np.ascontiguousarray(
        planes[:, np.minimum(rows, planes.shape[1] - 1)][:, :, np.minimum(columns, planes.shape[2] - 1)]
    )
