"""Whether a detector says the same of every image: its loss may be low then, and nothing was learnt.

A network whose outputs saturate, or whose first layers died, predicts the mean box of the training set everywhere.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from lib.storage import tables

BEST = 5  # detections of an image that are compared
NEAR = 0.01  # sides of the image


def alike(images: Iterable[tuple[pd.DataFrame, tuple[int, int]]]) -> bool:
    """True where all of at least two images have the same best detections: class by class, box by box within NEAR.

    images : the detections of each, of `tables.DETECTIONS`, the best first, and its width and height
    """
    said = []
    for detections, size in images:
        best = detections.iloc[:BEST]
        said.append((best["class"].tolist(), tables.boxes(best) / np.tile(size, 2)))
    if len(said) < 2 or not said[0][0]:
        return False
    classes, boxes = said[0]
    return all(others == classes and np.abs(places - boxes).max() <= NEAR for others, places in said[1:])
