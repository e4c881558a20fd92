"""Occlusion (Zeiler and Fergus 2013, §4.2): how much of a score is lost where a window of the input is grey."""

import numpy as np
import torch
from torch import Tensor

from lib.detectors.target import Target


def occlusion(target: Target, windows: int) -> Tensor:
    """float32 (H, W) on the input's pixels: the loss of score, averaged over the windows that cover a pixel.

    windows : windows side by side along the box and its surroundings, half a box wide on each side; they overlap by
              half, so there are 2 windows - 1 of them. Further away it is 0, not measured

    The window is the mean colour. For one input.
    """
    from captum.attr import Occlusion  # seconds, which a trace need not wait

    height, width = target.inputs.shape[2:]
    (box,) = target.to_input(target.box)
    margin = (box[2:] - box[:2]) / 2
    x1, y1 = np.clip(np.floor(box[:2] - margin), 0, [width - 1, height - 1]).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(box[2:] + margin), [x1 + 1, y1 + 1], [width, height]).astype(int).tolist()
    sides = [-(-side // windows) for side in (y2 - y1, x2 - x1)]

    def score(patches: Tensor) -> Tensor:
        whole = target.inputs.repeat(len(patches), 1, 1, 1)
        whole[:, :, y1:y2, x1:x2] = patches
        return target(target.network, whole)

    with torch.no_grad():
        lost = Occlusion(score).attribute(
            target.inputs[:, :, y1:y2, x1:x2].contiguous(), (3, *sides), (3, *(max(side // 2, 1) for side in sides)), 0
        )
    heat = torch.zeros(height, width)
    heat[y1:y2, x1:x2] = lost[0, 0]
    return heat
