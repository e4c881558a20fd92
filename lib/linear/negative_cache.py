"""The cached negatives of all classes, each row stored once: what is hard for one class often is for others too.

C classes, R boxes of an image, D features, M rows in the cache.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


class NegativeCache:
    """Feature rows with their keys (image, box) and the classes that hold them as a negative.

    `held` bool (M, C) says which class holds which row. Rows are in the order of arrival.
    """

    def __init__(self, features: int, classes: int) -> None:
        # New rows wait in a list; joining them at each image would copy the cache thousands of times.
        self._parts = [np.empty((0, features), np.float32)]
        self._keys = np.empty((0, 2), np.int64)
        self.held = np.empty((0, classes), bool)

    def __len__(self) -> int:
        """M."""
        return len(self._keys)

    @property
    def rows(self) -> NDArray[np.float32]:
        """float32 (M, D)."""
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0]

    def admit(
        self, image: int, boxes: NDArray[np.int64], features: NDArray[np.float32], wanted: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Takes in the boxes that classes want; a class that holds a box already does not get it twice.

        image    : number of the image;  boxes : int64 (R,) distinct numbers of boxes in it; with the image the key
        features : float32 (R, D)
        wanted   : bool (R, C)
        returns  : int64 (C,) number of boxes that are new to each class
        """
        known = np.flatnonzero(self._keys[:, 0] == image)
        place = dict(zip(self._keys[known, 1].tolist(), known.tolist(), strict=True))
        position = np.array([place.get(box, -1) for box in boxes.tolist()], np.int64)  # of each box in the cache
        fresh = np.flatnonzero(wanted.any(axis=1) & (position < 0))
        position[fresh] = len(self._keys) + np.arange(len(fresh))
        self._parts.append(features[fresh])
        self._keys = np.vstack([self._keys, np.column_stack([np.full(len(fresh), image), boxes[fresh]])])
        self.held = np.vstack([self.held, np.zeros((len(fresh), wanted.shape[1]), bool)])
        rows, labels = np.nonzero(wanted)
        new = ~self.held[position[rows], labels]
        self.held[position[rows[new]], labels[new]] = True
        return np.bincount(labels[new], minlength=wanted.shape[1])

    def compact(self) -> None:
        """Forgets the rows that no class holds."""
        used = self.held.any(axis=1)
        self._parts, self._keys = [self.rows[used]], self._keys[used]
        self.held = self.held[used]

    def keys(self, label: int) -> NDArray[np.int64]:
        """int64 (m, 2): image and box of every negative of a class, in order of arrival."""
        return self._keys[self.held[:, label]]

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays from which `load_state_dict` makes the same cache."""
        return {"rows": self.rows.copy(), "keys": self._keys.copy(), "held": self.held.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Becomes the cache that `state_dict` was taken from."""
        self._parts = [np.array(state["rows"], np.float32)]
        self._keys, self.held = np.array(state["keys"], np.int64), np.array(state["held"], bool)
