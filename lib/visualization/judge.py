"""Numbers that say how far a map may be believed: does it point at the object, and does the score hang on its pixels?

All on the pixels of the network's input. H W its sides, P steps.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lib.visualization.placing import Heat

Corners = NDArray[np.floating]


def points_at(heat: Heat, box: Corners) -> bool | None:
    """The pointing game (Zhang et al. 2016): does the map's maximum, the first of equal ones, lie in the box?

    heat : float32 (H, W);  box : (4,) half-open.  None where the map has no positive value
    """
    if not (heat > 0).any():
        return None
    row, column = np.unravel_index(np.argmax(heat), heat.shape)
    return bool(box[0] <= column + 0.5 < box[2] and box[1] <= row + 0.5 < box[3])


def energy_inside(heat: Heat, box: Corners) -> float | None:
    """Fraction of the map's positive values that lie in the box, 0 .. 1; None where there are none."""
    positive = np.maximum(heat, 0)
    total = positive.sum(dtype=np.float64)
    rows, columns = (np.arange(side) + 0.5 for side in heat.shape)
    inside = ((rows >= box[1]) & (rows < box[3]))[:, None] & ((columns >= box[0]) & (columns < box[2]))
    return float(positive[inside].sum(dtype=np.float64) / total) if total > 0 else None


def centred(height: int, width: int, shown: Corners) -> Heat:
    """The baseline: a bell at the centre of what the input shows of the image, a quarter of its sides wide.

    shown : (4,) that part, in pixels of the input
    """
    (x1, y1), (x2, y2) = np.asarray(shown, np.float64).reshape(2, 2)
    rows = (np.arange(height) + 0.5 - (y1 + y2) / 2) / ((y2 - y1) / 4)
    columns = (np.arange(width) + 0.5 - (x1 + x2) / 2) / ((x2 - x1) / 4)
    return np.exp(-(rows[:, None] ** 2 + columns**2) / 2).astype(np.float32)


def curves(
    score: Callable[[Tensor], Tensor], inputs: Tensor, heat: Heat, steps: int
) -> tuple[float | None, float | None]:
    """Areas under the deletion and the insertion curve (Petsiuk et al. 2018): low and high for a map that tells.

    The pixels go over to the mean colour, or come back from it, those of the largest values first, an equal number in
    each of the steps. The curve is the score between that of the grey input, 0, and that of the whole one, 1; the area
    is that of the line through its P + 1 points. None where the grey input scores as high as the whole one.

    score  : float32 (N, 3, H, W) -> (N,);  inputs : float32 (1, 3, H, W)
    heat   : float32 (H, W);  steps : P
    """
    order = torch.from_numpy(np.argsort(-heat, axis=None, kind="stable").copy()).to(inputs.device)
    ends = np.linspace(0, len(order), steps + 1).round().astype(int)[1:-1]
    with torch.no_grad():
        grey, whole = score(torch.zeros_like(inputs)).item(), score(inputs).item()
        if whole <= grey:
            return None, None
        areas = []
        for start, end, background in ((whole, grey, inputs), (grey, whole, torch.zeros_like(inputs))):
            other = torch.zeros_like(inputs) if background is inputs else inputs
            values = [start]
            for count in ends:
                mixed = background.contiguous().clone()
                mixed.flatten(2)[:, :, order[:count]] = other.flatten(2)[:, :, order[:count]]
                values.append(score(mixed).item())
            heights = (np.array([*values, end]) - grey) / (whole - grey)
            areas.append(float(np.trapezoid(heights, dx=1 / steps)))
    return areas[0], areas[1]
