"""Whether the proposals of selective search fit the objects, why they miss some, and what would find these.

R boxes of an image, S objects that are missed.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lib.boxes.boxes import Boxes, iou
from lib.images.image_set import ImageSet
from lib.proposals.cached import Found
from lib.proposals.recall import best_overlaps
from lib.selective_search.settings import Settings
from lib.storage.by_image import ByImage

LOW = 0.5  # IoU: an object whose best box is below it is missed
SHARE = 0.2  # of the objects; the built-in sets' presets miss 0 to 7 in 100
SAMPLE = 16  # images that are searched again
ENOUGH = 0.9  # share of the missed objects that proposed limits reach, of those that any limit reaches


Search = Callable[[list[str], Settings], Iterable[Found]]


@dataclass(frozen=True)
class _Missed:
    """A missed object in a search without limits.

    rows  : int (r,) ascending, which boxes of its image have an IoU of LOW with it, the best box at 0; r may be 0
    sides : int (R,) the shorter side of each box of the image, pixels at the size searched
    """

    rows: NDArray[np.int64]
    sides: NDArray[np.int64]

    @property
    def side(self) -> int:
        """The largest `min_box_px` that leaves a box for it; 0 where it has none."""
        return int(self.sides[self.rows].max(initial=0))

    def boxes(self, min_box_px: int) -> int | None:
        """The smallest `max_boxes` that leaves a box for it beside this `min_box_px`; None where there is none."""
        kept = self.sides >= min_box_px
        rows = self.rows[kept[self.rows]]
        return int(kept[: rows[0] + 1].sum()) if len(rows) else None


def cautions(image_set: ImageSet, table: ByImage, settings: Settings, search: Search) -> list[str]:
    """A warning where over a fifth of the objects have no box with an IoU of 0.5, with the limits that would do.

    image_set : images to learn from: limits are never chosen on those that figures are of
    table     : their proposals;  settings : with which these were searched
    search    : (ids of images, settings) -> `Found` of each; at most 16 images are searched again, without limits
    """
    missed: dict[str, Boxes] = {}
    count = 0
    for image_id in image_set.ids:
        objects = image_set.objects(image_id)[0]
        low = best_overlaps(table.boxes(image_id), objects)[-1] < LOW
        count += len(objects)
        missed |= {image_id: objects[low]} if low.any() else {}
    total = sum(map(len, missed.values()))
    if total <= SHARE * count:
        return []
    ids = list(missed)
    positions = np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).round().astype(int)
    again = list(_search_again(image_set, {ids[row]: missed[ids[row]] for row in positions}, settings, search))
    problem = f"{total / count:.0%} of {count} objects for training have no proposal with an IoU of {LOW} or more."
    return [f"{problem} {_remedy(again, settings)}"]


def _search_again(
    image_set: ImageSet, missed: Mapping[str, Boxes], settings: Settings, search: Search
) -> Iterator[_Missed]:
    for result in search(list(missed), settings.changed(min_box_px=1, max_boxes=None)):
        width, height = image_set.size(result.image_id)
        shrink = _searched_width(settings, width, height) / width
        sides = np.rint((result.boxes[:, 2:] - result.boxes[:, :2]).min(axis=1) * shrink).astype(np.int64)
        for reaches in (iou(result.boxes, missed[result.image_id]) >= LOW).T:
            yield _Missed(np.flatnonzero(reaches), sides)


def _searched_width(settings: Settings, width: int, height: int) -> int:
    if settings.width:
        return settings.width
    longest = max(width, height)
    return max(1, round(width * min(1.0, (settings.max_side or longest) / longest)))


def _remedy(again: Sequence[_Missed], settings: Settings) -> str:
    """What keeps a box from each of the objects, and which limits would not."""
    least, most = settings.min_box_px, settings.max_boxes
    sides = [missed.side for missed in again if missed.side]
    small, none = sum(side < least for side in sides), len(again) - len(sides)
    cut = len(sides) - small
    reasons = [f"{small} have boxes smaller than min_box_px ({least}) alone"] * bool(small)
    reasons += [f"{cut} have none among the best {most} (max_boxes)"] * bool(cut)
    reasons += [f"{none} have none at all"] * bool(none)
    text = f"Of {len(again)} of these, searched again without limits, {', '.join(reasons)}."
    if sides:
        least = min(least, int(np.quantile(sides, 1 - ENOUGH, method="lower")))
        ranks = [rank for missed in again if (rank := missed.boxes(least))]
        if most is not None:
            most = max(most, -(-int(np.quantile(ranks, ENOUGH, method="higher")) // 100) * 100)
        reached = sum(most is None or rank <= most for rank in ranks)
        limits = [f"`min_box_px: {least}`"] * (least != settings.min_box_px)
        limits += [f"`max_boxes: {most}`"] * (most != settings.max_boxes)
        text += f" Set {' and '.join(limits)} in proposals.selective_search: then {reached} of {len(again)} have one."
    if none > len(again) / 2:
        other = "a larger width" if settings.mode == "quality" else "mode: quality, or a larger width,"
        text += f" Set {other} for other regions."
    return text
