"""Which images a batch of a detector's training holds: pass after pass over the set, each in its own order."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lib.training.loop import generator


def images_of(seed: int, stage: str, iteration: int, per_batch: int, total: int) -> list[int]:
    """Positions of the images of a batch, a pure function of the arguments.

    per_batch, total : images in a batch, and in the set;  returns : `per_batch` positions from 0 to total - 1

    Batches follow each other without a gap: one may hold the last images of a pass and the first of the next, and no
    image is left out of a pass (the authors' loader skips a last, incomplete batch).
    """
    positions = []
    for index in range(iteration * per_batch, (iteration + 1) * per_batch):
        positions.append(int(_order(seed, stage, index // total, total)[index % total]))
    return positions


@lru_cache(maxsize=2)
def _order(seed: int, stage: str, number: int, total: int) -> NDArray[np.int64]:
    return generator(seed, f"{stage} order", number).permutation(total)
