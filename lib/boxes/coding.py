"""Boxes as corrections of other boxes, and back (R-CNN paper, appendix C; the authors' regressor code).

The widths here are ``x2 - x1``, without the "+1" of the authors' IoU. R proposals.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes

Deltas = NDArray[np.float32]
LARGEST_LOG = math.log(1000 / 16)


def _centre_form(boxes: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and sides, each float64 (R, 2)."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    return corners[:, :2] + sides / 2, sides


def encode(proposals: Boxes, objects: Boxes) -> Deltas:
    """Box targets that move each proposal onto its object.

    proposals : float32 (R, 4)  x1 y1 x2 y2 in pixels, half-open, area > 0
    objects   : float32 (R, 4)  same order; row i is the target of proposal i, area > 0
    returns   : float32 (R, 4)  dx dy in sides of the proposal, dw dh natural log of the ratio of sides

    R may be 0. A side that is not above 0 raises ValueError: its logarithm or its quotient does not exist.
    """
    centre, side = _centre_form(proposals)
    object_centre, object_side = _centre_form(objects)
    if len(side) != len(object_side):
        raise ValueError(f"{len(side)} proposals for {len(object_side)} objects; they must pair row by row.")
    flat = np.flatnonzero(~((side > 0) & (object_side > 0)).all(axis=1))
    if flat.size:
        raise ValueError(f"row {flat[0]}: a side is not above 0; drop boxes without area before encoding.")
    return np.hstack([(object_centre - centre) / side, np.log(object_side / side)]).astype(np.float32)


def decode(proposals: Boxes, deltas: Deltas, largest_log: float = LARGEST_LOG) -> Boxes:
    """Proposals moved by their deltas; the inverse of `encode`. Neither clipped nor rounded.

    proposals   : float32 (R, 4)  x1 y1 x2 y2 in pixels, half-open
    deltas      : float32 (R, 4)  dx dy dw dh
    largest_log : dw and dh are cut to this from above, since exp(89) is infinite in float32; the usual
                  log(1000 / 16) lets a side grow by 62.5
    returns     : float32 (R, 4)

    R may be 0. Non-finite deltas give non-finite boxes, so that rows stay aligned; drop them afterwards.
    """
    centre, side = _centre_form(proposals)
    moves = np.asarray(deltas, np.float64).reshape(-1, 4)
    centre = centre + side * moves[:, :2]
    half = side * np.exp(np.minimum(moves[:, 2:], largest_log)) / 2
    return np.hstack([centre - half, centre + half]).astype(np.float32)


def decode_tensors(proposals: torch.Tensor, deltas: torch.Tensor, largest_log: float = LARGEST_LOG) -> torch.Tensor:
    """`decode` where the boxes are on the device of a network, in its own precision and in the graph of gradients.

    proposals : float (..., 4)  x1 y1 x2 y2 in pixels, half-open;  deltas : float, the same shape or broadcast to it
    returns   : float (..., 4)  in float32 within 1e-3 pixels of `decode` on boxes of up to 1000 pixels
    """
    side = proposals[..., 2:] - proposals[..., :2]
    centre = proposals[..., :2] + side / 2 + side * deltas[..., :2]
    half = side * deltas[..., 2:].clamp(max=largest_log).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)
