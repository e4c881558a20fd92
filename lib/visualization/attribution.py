"""Every map of one score, and its numbers.

K channels of a signed map (3 of the pixels' colours, or 1), H W sides of the network's input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from lib.detectors.target import Target
from lib.visualization import judge, sanity
from lib.visualization.cam import grad_cam, hires_cam
from lib.visualization.fields import Fields
from lib.visualization.gradients import gradient, ruled
from lib.visualization.occlusion import occlusion
from lib.visualization.placing import Heat, upsample

OF_NETWORK = ("gradient", "guided", "deconvnet", "grad_cam", "hires_cam", "guided_grad_cam")  # whose sanity is checked
KINDS = (*OF_NETWORK, "occlusion")
CENTRE = "centre"  # the baseline, judged as the others
Maps = Mapping[str, NDArray[np.float32]]


def maps(target: Target, fields: Fields, kinds: Sequence[str] = OF_NETWORK, network: nn.Module | None = None) -> Maps:
    """Signed maps float32 (K, H, W) by kind, of `OF_NETWORK`, in its order.

    fields : of the cells of the target's map;  network : in place of the target's own
    """
    network = network or target.network
    made: dict[str, NDArray[np.float32]] = {}
    rules = {"gradient": "plain", "guided": "guided", "deconvnet": "deconvnet"}
    for kind, rule in rules.items():
        if kind in kinds or (kind == "guided" and "guided_grad_cam" in kinds):
            made[kind] = _array(gradient(target, ruled(network, rule)))  # type: ignore[arg-type]
    if "grad_cam" in kinds or "guided_grad_cam" in kinds:
        made["grad_cam"] = upsample(_array(grad_cam(target, network)), fields)[None]
    if "hires_cam" in kinds:
        made["hires_cam"] = upsample(_array(hires_cam(target, network)), fields)[None]
    if "guided_grad_cam" in kinds:
        made["guided_grad_cam"] = made["guided"] * made["grad_cam"]
    return {kind: made[kind] for kind in OF_NETWORK if kind in kinds}


def heat(signed: NDArray[np.float32]) -> Heat:
    """A signed map as one value of each pixel, at least 0: the largest size of its colours' values (Simonyan et al.
    2013, §3), or the positive part of a map without colours.  float32 (K, H, W) -> (H, W)"""
    return np.asarray(np.abs(signed).max(axis=0) if len(signed) > 1 else np.maximum(signed[0], 0), np.float32)


def shown(target: Target, width: int, height: int) -> NDArray[np.float64]:
    """float64 (4,) where the image lies in the input, in its pixels, clipped to it: a crop may reach beyond."""
    sides = target.inputs.shape[3], target.inputs.shape[2]
    whole = target.to_input(np.array([[0, 0, width, height]], np.float32))[0]
    return np.clip(whole, 0, [*sides, *sides])


@dataclass(frozen=True)
class Attribution:
    """heats : by kind of `KINDS` and `CENTRE`, float32 (H, W);  numbers : by kind, None where there is no answer:

    points, energy : `judge.points_at` and `energy_inside`;  deletion, insertion : `judge.curves`
    empty          : whether the map has no positive value
    head, half, all : rank correlation inside the box with the map of a network that is random from there on
    """

    heats: Mapping[str, Heat]
    numbers: Mapping[str, Mapping[str, Any]]


def attribute(
    target: Target, fields: Fields, size: tuple[int, int], truth: NDArray[np.floating], windows: int, steps: int,
    seed: int,
) -> Attribution:
    """Every map of a score, judged.

    size    : width and height of the image;  truth : (4,) of the object, in pixels of the image
    windows : of `occlusion`;  steps : of `judge.curves`;  seed : of random weights
    """
    signed = {**maps(target, fields), "occlusion": _array(occlusion(target, windows)[None, None])}
    part = shown(target, *size)
    heats = {kind: heat(values) * _inside(part, values.shape[1:]) for kind, values in signed.items()}
    heats[CENTRE] = judge.centred(target.inputs.shape[2], target.inputs.shape[3], part)
    (box,) = target.to_input(np.asarray(truth, np.float32))
    numbers: dict[str, dict[str, Any]] = {}
    for kind, values in heats.items():
        deletion, insertion = judge.curves(partial(target, target.network), target.inputs, values, steps)
        numbers[kind] = {
            "points": judge.points_at(values, box), "energy": judge.energy_inside(values, box),
            "empty": not bool((values > 0).any()), "deletion": deletion, "insertion": insertion,
        }
    rows = _rows(target)
    for level in sanity.LEVELS:
        others = maps(target, fields, network=sanity.randomised(target, level, seed))
        for kind, values in others.items():
            numbers[kind][level] = sanity.rank_correlation(signed[kind][rows], values[rows])
    return Attribution(heats, numbers)


def _rows(target: Target) -> tuple[slice, slice, slice]:
    """The pixels of the box: near it every map is strong, whatever the weights, since the score sees no others."""
    height, width = target.inputs.shape[2:]
    (box,) = target.to_input(target.box)
    x1, y1 = np.clip(np.floor(box[:2]), 0, [width - 1, height - 1]).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(box[2:]), [x1 + 1, y1 + 1], [width, height]).astype(int).tolist()
    return slice(None), slice(y1, y2), slice(x1, x2)


def _inside(part: NDArray[np.float64], sides: tuple[int, ...]) -> NDArray[np.bool_]:
    """bool (H, W): whose pixels' centres lie in a part of the input."""
    rows, columns = (np.arange(side) + 0.5 for side in sides)
    return ((rows >= part[1]) & (rows < part[3]))[:, None] & ((columns >= part[0]) & (columns < part[2]))


def _array(values: Tensor) -> NDArray[np.float32]:
    """float32 (1, ...) of one input -> (...)."""
    return np.ascontiguousarray(values[0].cpu().numpy(), np.float32)
