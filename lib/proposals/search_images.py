"""Selective search on the images of a data set, in several processes."""

import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lib.images.image_set import ImageSet, open_image
from lib.parallel.processes import in_order
from lib.proposals.cached import Found
from lib.selective_search.selective_search import search, warm_up
from lib.selective_search.settings import Settings
from lib.stage.params import Compute

_warm_up = cache(warm_up)

def search_images(
    image_set: ImageSet, image_ids: Sequence[str], settings: Settings, compute: Compute
) -> Iterator[Found]:
    """`Found` of each image, in order. A failure is returned as text, so one bad image does not stop the others.

    Kernels are compiled here first, or every process of this machine would compile them for itself; each then loads
    them before its first image, so that no image is timed cold.
    """
    addresses = [image_set.address(image_id) for image_id in image_ids]

    def work() -> Iterator[tuple[str, tuple[Any, ...]]]:
        _warm_up()  # once the launcher is there: a cluster that cannot be used is told before
        for address in addresses:
            yield address[1], (address, settings)

    if addresses:
        root, first, *_ = addresses[0]
        yield from in_order(_search, work(), compute, [str(Path(root) / first)])


def _search(address: tuple[str, str, str, bool], settings: Settings) -> Found:
    _warm_up()
    start = time.perf_counter()
    try:
        boxes, scores = search(open_image(*address), settings)
    except Exception as error:
        return Found(address[1], np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.0, f"{error}")
    return Found(address[1], boxes, scores, time.perf_counter() - start)
