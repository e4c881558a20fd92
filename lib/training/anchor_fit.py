"""Whether the anchors fit the objects before anything is learnt, and which would.

N objects of all images in pixels of the scaled image, A anchors at a cell, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lib.backbones.scaling import Scale
from lib.boxes.anchors import Level, inside
from lib.boxes.boxes import Boxes, iou
from lib.images.image_set import ImageSet

LOW = 0.5  # IoU: an object below it with its best anchor does not fit
# Shares of objects above which it is said. Fitting anchors leave 1 to 9 in 100 objects below LOW on digits, BCCD and
# VOC, and the paper's nine on VOC 20; the default's, made for digits, leave 47 to 85 of VOC's bicycles, horses, cats.
SHARE, CLASS_SHARE, CELL_SHARE = 0.25, 0.5, 0.05
GROWTH = 2.0  # most by which larger images are proposed: four times the time
OBJECTS = 10  # of a class, from which it is named by itself
FIT = 0.05  # share of objects below LOW at which more anchors are not worth their time
SCALES, RATIOS = 6, [0.5, 1.0, 2.0]  # most scales that are proposed; the paper's ratios


class Grid(Protocol):
    """Anchors of one map by scales and ratios, such as those of the region proposal network.

    levels : the one map's, its anchors scale after scale within each ratio;  stride : pixels between cells
    """

    levels: tuple[Level, ...]
    stride: int

    @property
    def scales(self) -> list[float]:
        """Sides of the square anchors, pixels."""

    @property
    def ratios(self) -> list[float]:
        """Height / width."""

    def of_image(self, width: int, height: int) -> Boxes:
        """See `AnchorGrid.of_image`."""

    def remade(self, scales: Sequence[float], ratios: Sequence[float]) -> "Grid":
        """The same with other scales and ratios."""


@dataclass(frozen=True)
class AnchorFit:
    """How well the anchors fit the objects before anything is learnt.

    classes  : see `class_rows`
    cautions : warnings, each with a remedy;  unused : ids of images in which no anchor lies inside
    """

    classes: list[dict[str, Any]]
    cautions: list[str]
    unused: list[str]


@dataclass(frozen=True)
class _Measured:
    """best, label : (N,) IoU with the best anchor inside the image, and the class;  sides : float (N, 2) width, height
    used : int (A,) anchors of each kind inside their image;  unused : see `AnchorFit`
    short : median of the images' shorter sides, pixels
    """

    best: NDArray[np.float64]
    label: NDArray[np.int64]
    sides: NDArray[np.float64]
    used: NDArray[np.int64]
    unused: list[str]
    short: float

    @property
    def low(self) -> NDArray[np.bool_]:
        """bool (N,)"""
        return self.best < LOW


def anchor_fit(
    image_set: ImageSet, anchors: Grid, scale: Scale, positive: float, method: str, block: str
) -> AnchorFit:
    """Best IoU of every object with the anchors inside its image, as the network will see it, unmirrored.

    scale         : of one size;  positive : IoU threshold of positives
    method, block : keys of params.yaml, whose `anchors` and `scale` the cautions name
    """
    measured = _measure(image_set, anchors, scale)
    classes = class_rows(measured.best, measured.label, image_set.classes, positive)
    cautions = [*_inside(anchors, measured, method)]
    if len(measured.best):
        cautions += _cells(measured, scale, anchors.stride, block)
        cautions += _misfit(image_set, anchors, scale, measured, method)
    return AnchorFit(classes, cautions, measured.unused)


def _measure(image_set: ImageSet, anchors: Grid, scale: Scale) -> _Measured:
    used, unused, short = np.zeros(len(anchors.levels[0].first), np.int64), [], []
    best, label, sides = [np.zeros(0)], [np.zeros(0, np.int64)], [np.zeros((0, 2))]
    for image_id in image_set.ids:
        width, height = image_set.size(image_id)
        factor = scale.factors(width, height)[0]
        size = round(width * factor), round(height * factor)
        image_anchors = anchors.of_image(*size)
        rows = inside(image_anchors, *size)
        used += np.bincount(rows % len(used), minlength=len(used))
        unused += [] if len(rows) else [image_id]
        short.append(min(size))
        objects, labels = image_set.objects(image_id)
        objects = objects * np.float32(factor)
        best.append(iou(image_anchors[rows], objects).max(axis=0, initial=0).astype(np.float64))
        label.append(labels)
        sides.append((objects[:, 2:] - objects[:, :2]).astype(np.float64))
    of_objects = np.concatenate(best), np.concatenate(label), np.concatenate(sides)
    return _Measured(*of_objects, used, unused, float(np.median(short)))


def class_rows(
    best: NDArray[np.float64], label: NDArray[np.int64], names: Sequence[str], positive: float
) -> list[dict[str, Any]]:
    """Of each class that has objects: `class`, `objects`, mean best IoU, and shares of the objects: with an anchor at
    or above the IoU threshold of positives (`reached`), with no anchor that overlaps them (`untouched`).

    best, label : (N,) IoU of each object with its best anchor, and its class;  positive : see `anchor_fit`
    """
    by_class = {name: best[label == row] for row, name in enumerate(names)}
    return [
        {"class": name, "objects": len(of_class), "best_iou": float(of_class.mean()),
         "reached": float((of_class >= positive).mean()), "untouched": float((of_class == 0).mean())}
        for name, of_class in by_class.items() if len(of_class)
    ]


def _inside(anchors: Grid, measured: _Measured, method: str) -> Iterator[str]:
    scales = anchors.scales
    for position, scale in enumerate(scales):
        if not measured.used[position :: len(scales)].any():  # scale after scale within each ratio
            yield (f"anchors of scale {scale:g} lie inside none of the images at this size and stay untrained. "
                   f"Leave the scale out of {method}.anchors, or raise short_side.")
    if measured.unused:
        yield (f"{len(measured.unused)} images have no anchor inside and teach nothing, {measured.unused[0]} first. "
               f"Add a smaller scale to {method}.anchors, or raise short_side.")


def _cells(measured: _Measured, scale: Scale, stride: int, block: str) -> Iterator[str]:
    size = np.sqrt(measured.sides.prod(axis=1))
    share = (size < stride).mean()
    if share > CELL_SHARE:
        growth = min(stride / np.quantile(size, CELL_SHARE), GROWTH)
        short, longest = (int(np.ceil(side * growth)) for side in (scale.short_side[0], scale.max_side))
        then = (size * growth < stride).mean()
        yield (f"{share:.0%} of {len(size)} objects are smaller than a cell of the feature map ({stride} x {stride} "
               f"pixels) at this size. Set {block} and the other trainings of the method to `scale: {{short_side: "
               f"[{short}], max_side: {longest}}}`: then {then:.0%} are. Boxes with a side below `min_size` pixels of "
               f"the original image are never proposed: lower it below that of your smallest objects.")


def _misfit(
    image_set: ImageSet, anchors: Grid, scale: Scale, measured: _Measured, method: str
) -> Iterator[str]:
    share = measured.low.mean()
    labels, counts = np.unique(measured.label, return_counts=True)
    shares = {
        image_set.classes[label]: measured.low[measured.label == label].mean() for label in labels[counts >= OBJECTS]
    }
    worst = sorted((name for name in shares if shares[name] > CLASS_SHARE), key=lambda name: -shares[name])
    if share <= SHARE and not worst:
        return
    first, last = np.quantile(np.sqrt(measured.sides.prod(axis=1)), [0.05, 0.95])
    names = ", ".join(f"{shares[name]:.0%} of {name}" for name in worst[:3])
    yield (
        f"{share:.0%} of {len(measured.low)} objects overlap their best anchor by less than {LOW}"
        f"{f' ({names})' if worst and len(shares) > 1 else ''}. At this size the objects measure {first:.0f} to "
        f"{last:.0f} pixels (square root of the area; 5% are smaller, 5% larger), the anchors "
        f"{min(anchors.scales):g} to {max(anchors.scales):g}. "
        f"{_remedy(image_set, anchors, scale, measured, method) if share > SHARE else ''}"
        f"{'' if share > SHARE else _shape(measured, image_set.classes.index(worst[0]), worst[0], method)}"
    )


def _shape(measured: _Measured, label: int, name: str, method: str) -> str:
    """What to add for a class that is too rare to decide what fits all."""
    width, height = np.median(measured.sides[measured.label == label], axis=0)
    return (f"Objects of {name} measure {width:.0f} x {height:.0f} (medians): add a scale of "
            f"{np.sqrt(width * height):.0f} and a ratio of {height / width:.2g} to {method}.anchors.")


def _remedy(image_set: ImageSet, anchors: Grid, scale: Scale, measured: _Measured, method: str) -> str:
    # A smaller anchor than the image by a cell lies inside somewhere, whatever its place on the grid.
    proposed = fitting(measured.sides, measured.short - anchors.stride, anchors)
    then = _measure(image_set, proposed, scale).low.mean()
    if then >= measured.low.mean():
        return "No other scales and ratios fit better."
    lines = f"`scales: {proposed.scales}` and `ratios: {proposed.ratios}`"
    return f"Set {method}.anchors to {lines}: then {then:.0%} do."


def fitting(sides: NDArray[np.float64], largest: float, anchors: Grid) -> Grid:
    """The fewest anchors that fit 95 of 100 objects, or those that fit most where none fit so many.

    sides   : float (N, 2), width and height of each object, pixels; N is at least 1
    largest : side that an anchor may have, pixels;  anchors : as they are now
    returns : `anchors` with scales in equal steps of factors from the 5th to the 95th percentile of the objects' sizes,
              and with their own ratios or the paper's

    An anchor and an object lie as far apart as on average on the grid: a quarter of a cell in both directions.
    """
    first, middle, last = np.minimum(np.quantile(np.sqrt(sides.prod(axis=1)), [0.05, 0.5, 0.95]), max(largest, 1))
    candidates = []
    for count in range(1, SCALES + 1):
        scales = np.geomspace(first, last, count) if count > 1 else [middle]
        rounded = sorted({float(max(round(scale), 1)) for scale in scales})
        candidates += [anchors.remade(rounded, ratios) for ratios in (anchors.ratios, RATIOS)]
    firsts = [candidate.levels[0].first for candidate in candidates]
    shares = [(_overlaps(sides, anchors_of_cell, anchors.stride / 4) < LOW).mean() for anchors_of_cell in firsts]
    enough = [row for row, share in enumerate(shares) if share <= FIT]
    return candidates[min(enough, key=lambda row: len(firsts[row])) if enough else int(np.argmin(shares))]


def _overlaps(sides: NDArray[np.float64], anchors: NDArray[np.float32], apart: float) -> NDArray[np.float64]:
    """float (N,): best IoU of boxes of these sides with anchors whose centres are `apart` pixels off on both axes."""
    shapes = (anchors[:, 2:] - anchors[:, :2]).astype(np.float64)
    common = np.minimum(sides[:, None], shapes)
    common = np.minimum(common, (sides[:, None] + shapes) / 2 - apart).clip(0).prod(axis=2)
    union = sides.prod(axis=1)[:, None] + shapes.prod(axis=1) - common
    return np.asarray((common / union).max(axis=1))
