"""Selective search (Uijlings et al., Selective Search for Object Recognition, IJCV 2013), on one thread.

Several hierarchical groupings, over colour spaces, first segmentations and similarities, give boxes that are
collected, put into a partly random order, filtered by size and freed of duplicates.

R boxes, H W pixels.
"""

import hashlib
import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.selective_search import colour, edges, texture
from lib.selective_search.grouping import group
from lib.selective_search.regions import describe
from lib.selective_search.scratch import Scratch
from lib.selective_search.segmentation import segment
from lib.selective_search.settings import MODES, Settings

_SCRATCH_LIMIT = 128 << 20  # bytes that a thread keeps for its next image; an image of 1000 x 750 needs as many
_thread = threading.local()


def search(
    image: NDArray[np.uint8], settings: Settings | None = None, **changes: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Boxes that are likely to hold an object, the best first.

    image    : uint8 (H, W, 3) RGB
    settings : fast mode if None
    changes  : fields of `Settings` that replace those of `settings`
    returns  : float32 (R, 4) x1 y1 x2 y2 in pixels of `image`, 0-based, half-open, 0 <= x1 < x2 <= W; float32 (R,)
               scores in (0, 1], descending. No two boxes were equal at the size searched. R is at least 1: where no
               box is large enough, the only one is the whole image.

    The result depends on the image's pixels and the settings only, not on process, order or machine.
    Raises TypeError for anything but uint8 and ValueError for any other shape.
    """
    settings = (settings or Settings()).changed(**changes)
    _check(image)
    height, width = image.shape[:2]
    small = np.ascontiguousarray(_scaled(image, settings))
    boxes, scores = _ordered(_hierarchies(small, settings), small, settings)
    scale = np.array([width / small.shape[1], height / small.shape[0]] * 2)
    limit = np.array([width, height] * 2, np.float32)
    return np.minimum((boxes * scale).astype(np.float32), limit), scores


def warm_up() -> None:
    """Compiles every kernel, or loads it from numba's cache. Call it before a pool of processes starts, or each of
    them compiles for itself."""
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for mode in MODES:
        search(image, mode=mode, min_box_px=1)


def _check(image: NDArray[np.uint8]) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        raise TypeError(
            f"selective search got {getattr(image, 'dtype', type(image).__name__)}. It takes uint8 values from 0 to "
            "255: decode the image with lib.images.decode, or convert it first."
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"selective search got an array of shape {image.shape}. It takes (H, W, 3), RGB, with at least one pixel: "
            "decode the image with lib.images.decode, which makes grey, palette and transparent images RGB."
        )


def _scaled(image: NDArray[np.uint8], settings: Settings) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = 1.0
    if settings.width:
        scale = settings.width / width
    elif settings.max_side:
        scale = min(1.0, settings.max_side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == (width, height):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR_EXACT))


def _hierarchies(image: NDArray[np.uint8], settings: Settings) -> list[NDArray[np.int32]]:
    """int32 (A, 4) boxes of every grouping, in the order in which the regions were formed."""
    height, width = image.shape[:2]
    scratch = getattr(_thread, "scratch", None) or Scratch()
    spaces, scales, strategies = settings.plan
    boxes = []
    for space in spaces:
        planes = colour.convert(image, space)
        smoothed = edges.smooth(planes, settings.sigma, scratch)
        order, keys = edges.ascending(edges.weigh(smoothed, settings.connectivity, scratch), scratch)
        segmentations = [segment(order, keys, (height, width), k, round(k), scratch) for k in scales]
        bins, textured = texture.bins(
            planes, settings.colour_bins, settings.texture_bins, settings.texture_range, scratch
        )
        labellings = [labels for labels, _ in segmentations]
        described = describe(labellings, bins, textured, settings.colour_bins, settings.texture_bins, scratch)
        for regions, (_, pairs) in zip(described, segmentations, strict=True):
            boxes += group(regions, pairs, strategies, height * width, scratch)
    _thread.scratch = scratch if scratch.size <= _SCRATCH_LIMIT else None
    return boxes


def _ordered(
    hierarchies: list[NDArray[np.int32]], image: NDArray[np.uint8], settings: Settings
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The boxes in the authors' order: position from the end of the hierarchy, times a random number, ascending.

    The authors do not seed that number; here it comes from the image's content.
    """
    boxes = np.concatenate(hierarchies)
    position = np.concatenate([np.arange(len(hierarchy), 0, -1) for hierarchy in hierarchies])
    content = hashlib.blake2b(np.array([settings.seed, *image.shape]).tobytes(), digest_size=16)
    content.update(image.data)
    random = np.random.Generator(np.random.PCG64(int.from_bytes(content.digest(), "little")))
    priority = position * random.random(len(position))
    order = np.argsort(priority, kind="stable")
    order = order[(boxes[order, 2:] - boxes[order, :2] >= settings.min_box_px).all(1)]
    if order.size == 0:
        height, width = image.shape[:2]
        return np.array([[0, 0, width, height]], np.int32), np.ones(1, np.float32)
    corners = boxes[order].astype(np.int64)
    _, first = np.unique(corners @ np.array([1, 1 << 16, 1 << 32, 1 << 48]), return_index=True)
    order = order[np.sort(first)][: settings.max_boxes or None]
    return boxes[order], (1 / (1 + priority[order])).astype(np.float32)
