"""Which boxes of a test set stay candidates, decided image by image (R-CNN authors' test code).

Per class: at most `per_image` boxes of an image, and about `per_set` of the set, by a threshold that rises as
better boxes come in. R-CNN: 100 and 40 x images, before NMS. SPPnet: scores above -1.5, NMS, then 100 and no
limit per set.
"""

import heapq
import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class Shortlist:
    """Running thresholds of C classes. The order of the images matters; the same order gives the same answer.

    classes   : C
    per_image : most boxes of one class in one image
    per_set   : most boxes of one class in the set, for R-CNN 40 x the number of images; None for no limit
    floor     : scores must be above this; it is where each threshold starts

    For each image and class call `keep`; after the last image drop the boxes for which `survives` is False.
    """

    def __init__(
        self, classes: int, per_image: int = 100, per_set: int | None = None, floor: float = -math.inf
    ) -> None:
        if per_image < 1 or (per_set is not None and per_set < 1):
            raise ValueError(f"per_image {per_image} and per_set {per_set} must be at least 1.")
        self._per_image, self._per_set = per_image, per_set
        self.thresholds = np.full(classes, floor, np.float64)
        # The best scores so far, as heaps whose root is the smallest: a list would have to be sorted for every image.
        self._best: list[list[float]] = [[] for _ in range(classes)]

    def keep(self, label: int, scores: NDArray[np.floating]) -> NDArray[np.int64]:
        """Rows of one image to keep for class `label`; their scores raise its threshold.

        scores  : float (R,)  minus infinity means "not scored"; NaN and plus infinity raise ValueError
        returns : int64 (at most per_image,)  rows above the threshold (strictly), by descending score, then
                  ascending row
        """
        scores = np.asarray(scores)
        if np.isnan(scores).any() or np.isposinf(scores).any():
            raise ValueError(f"class {label}: a score is NaN or plus infinity; train the model again.")
        rows = np.flatnonzero(scores > self.thresholds[label])
        rows = rows[np.argsort(-scores[rows], kind="stable")][: self._per_image]
        self._raise_threshold(label, scores[rows].tolist())
        return rows.astype(np.int64)

    def _raise_threshold(self, label: int, scores: list[float]) -> None:
        if self._per_set is None:
            return
        best = self._best[label]
        for score in scores:
            heapq.heappush(best, score)
        if len(best) > self._per_set:
            while len(best) > self._per_set:
                heapq.heappop(best)
            self.thresholds[label] = best[0]

    def limit(self, per_set: int) -> None:
        """Raises the thresholds to those of a smaller limit per set, as if it had been the limit from the start."""
        self._per_set = per_set
        for label in range(len(self.thresholds)):
            self._raise_threshold(label, [])

    def survives(self, label: int, scores: NDArray[np.floating]) -> NDArray[np.bool_]:
        """bool (R,): which kept boxes reach the final threshold; an equal score stays, as in the authors' code."""
        return np.asarray(scores) >= self.thresholds[label]

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays from which `load_state_dict` resumes exactly."""
        return {
            "thresholds": self.thresholds.copy(),
            "counts": np.array([len(best) for best in self._best], np.int64),
            "best": np.array([score for best in self._best for score in best], np.float64),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Resumes where `state_dict` was taken; the settings must be the same."""
        if len(state["thresholds"]) != len(self.thresholds):
            raise ValueError(f"state of {len(state['thresholds'])} classes, expected {len(self.thresholds)}.")
        self.thresholds = np.array(state["thresholds"], np.float64)
        parts = np.split(np.asarray(state["best"], np.float64), np.cumsum(state["counts"])[:-1])
        self._best = [part.tolist() for part in parts]
