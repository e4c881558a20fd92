"""Hard-negative mining for linear SVMs (R-CNN paper §2.3, the authors' trainer).

Positives of a class are its objects alone. Negatives are all boxes whose IoU with each of them is
below 0.3, objects of other classes among them. All classes advance together, so each image is read once.

A `Miner` has the classes that look at the same features: of R-CNN all. Where each class has windows of its own size, as
in HOG, there is a `Miner` for each.

C classes, R boxes of an image, D features.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.linear import svm
from lib.linear.feature_norm import refuse_non_finite
from lib.linear.negative_cache import NegativeCache
from lib.stage.memory import require_memory

LOG_COLUMNS = ("image", "class", "negatives", "added", "dropped", "evicted", "sweeps")


class Miner:
    """Trains the SVMs of all classes while the images stream by.

    classes   : names, which give the order of C
    positives : name to float32 (P, D), scaled features of the objects of the class; a name may be absent
    settings  : see `svm.SvmSettings`;  seed : see `svm.fit`
    memory    : bytes that mining may take; a training that needs more raises InputError before it starts
    objects   : of each class, how many are behind its positives; None: as many as positives

    Afterwards `weights` float32 (C, D), `bias` float32 (C,) and `trained` bool (C,) are the model. A class
    without positives stays untrained, its weights zero; `notes` says so. `log` int64 (L, 7) has a row per
    training, columns `LOG_COLUMNS`: image, class, negatives trained on, boxes that entered since the last
    training, negatives dropped for `max_negatives` before it, negatives evicted after it, liblinear's sweeps.
    """

    def __init__(
        self, classes: Sequence[str], positives: Mapping[str, NDArray[np.float32]], settings: svm.SvmSettings,
        seed: int = 0, memory: float = math.inf, objects: Sequence[int] | None = None,
    ) -> None:
        widths = {positives[name].shape[1] for name in classes if name in positives}
        if len(widths) != 1:
            raise ValueError(f"positives must all be (P, D) with one D, found D in {sorted(widths)}.")
        features = widths.pop()
        self.classes, self.settings = list(classes), settings
        self._seed, self._memory = seed, memory
        none = np.empty((0, features), np.float32)
        self._positives = [np.asarray(positives.get(name, none), np.float32) for name in classes]
        for name, rows in zip(self.classes, self._positives, strict=True):
            refuse_non_finite(rows, f"positives of {name}")
        self._objects = self.positives.tolist() if objects is None else list(objects)
        self.weights = np.zeros((len(classes), features), np.float32)
        self.bias = np.zeros(len(classes), np.float32)
        self.trained = np.zeros(len(classes), bool)
        self.log = np.empty((0, len(LOG_COLUMNS)), np.int64)
        self.cache = NegativeCache(features, len(classes))
        self._added = np.zeros(len(classes), np.int64)

    @property
    def positives(self) -> NDArray[np.int64]:
        """int64 (C,): number of positives of each class. One is enough to train and too few to trust."""
        return np.array([len(rows) for rows in self._positives], np.int64)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 (R, C) of scaled features float32 (R, D); minus infinity where a class is not trained."""
        scores = np.asarray(features, np.float32) @ self.weights.T + self.bias
        scores[:, ~self.trained] = -np.inf
        return np.asarray(scores, np.float32)

    def add_image(
        self, image: int, features: NDArray[np.float32], overlaps: NDArray[np.float32], last: bool = False
    ) -> None:
        """Mines one image and trains the classes that are due.

        image    : its number, part of the key of a cached row
        features : float32 (R, D), scaled, of the proposals **and the objects** of the image
        overlaps : float32 (R, C) from `boxes.class_overlaps`; an object has 1 with its own class
        last     : this is the last image; every class that holds negatives trains once more

        A class that is not trained yet takes every negative and trains at once: on the first image, as in the
        original, or on a later one if the class had no negatives there. R may be 0.
        """
        features = np.ascontiguousarray(features, np.float32)
        refuse_non_finite(features, f"image {image}")
        hard = ~self.trained | (self.scores(features) > self.settings.hard_threshold)
        self.take(image, np.arange(len(features)), features, hard & self.negative(overlaps), last)

    def negative(self, overlaps: NDArray[np.float32]) -> NDArray[np.bool_]:
        """bool (R, C): boxes that are negatives of a class. overlaps : float32 (R, C) from `boxes.class_overlaps`"""
        return (overlaps < self.settings.negative_iou) | (overlaps == 0)

    def take(
        self, image: int, boxes: NDArray[np.int64], features: NDArray[np.float32], wanted: NDArray[np.bool_],
        last: bool = False, step: int | None = None,
    ) -> None:
        """Caches some boxes of an image and trains the classes that are due.

        boxes  : int64 (R,) their numbers in the image, distinct;  features : float32 (R, D), scaled
        wanted : bool (R, C) which classes take which;  last : see `add_image`
        step   : what `log` calls this image, where images come more than once
        """
        self._added += self.cache.admit(image, boxes, features, wanted & (self.positives > 0))
        due = ~self.trained | (self._added > self.settings.retrain_after) | last
        due &= self.cache.held.any(axis=0)
        for label in np.flatnonzero(due):
            self._train(image if step is None else step, int(label))
        if due.any():
            self.cache.compact()

    def _train(self, image: int, label: int) -> None:
        held = np.flatnonzero(self.cache.held[:, label])
        negatives = self.cache.rows[held]
        dropped = max(len(held) - self.settings.max_negatives, 0)
        if dropped:
            # The hardest under the model so far stay; ties go to the first.
            order = np.argsort(-(negatives @ self.weights[label]), kind="stable")
            stay = np.sort(order[: self.settings.max_negatives])
            self.cache.held[np.delete(held, stay), label] = False
            held, negatives = held[stay], negatives[stay]
        own, features = len(self._positives[label]), self.weights.shape[1]
        need = svm.mining_bytes(int(self.positives.sum()), own, len(self.cache), len(held), features)
        where = f"the SVM of {self.classes[label]}, {len(held)} negatives"
        require_memory(need, self._memory, where, "svm.max_negatives")
        weights, bias, sweeps = svm.fit(self._positives[label], negatives, self.settings, self._seed)
        self.weights[label], self.bias[label] = weights, bias
        self.trained[label] = True
        evicted = held[negatives @ weights + bias < self.settings.evict_threshold]
        self.cache.held[evicted, label] = False
        row = [image, label, len(held), self._added[label], dropped, len(evicted), sweeps]
        self.log = np.vstack([self.log, np.array([row], np.int64)])
        self._added[label] = 0

    def log_rows(self) -> list[dict[str, int | str]]:
        """`log` as rows for a plot, classes by name."""
        rows = [dict(zip(LOG_COLUMNS, map(int, row), strict=True)) for row in self.log]
        return [{**row, "class": self.classes[int(row["class"])]} for row in rows]

    @property
    def notes(self) -> list[str]:
        """What a user should know about single classes, a sentence each."""
        column = {name: self.log[:, index] for index, name in enumerate(LOG_COLUMNS)}
        limit, sweeps = self.settings.max_negatives, self.settings.max_iter
        notes = []
        for label, (name, count) in enumerate(zip(self.classes, self._objects, strict=True)):
            own = column["class"] == label
            if count == 0:
                notes.append(f"{name}: no object to learn from, so it has no SVM and no scores.")
            elif not self.trained[label]:
                notes.append(f"{name}: no negative was found, so it has no SVM and no scores.")
            elif count == 1:
                notes.append(f"{name}: its SVM rests on one object.")
            if dropped := int(column["dropped"][own].sum()):
                rule = "the easiest under its SVM until then, before its first the last ones"
                notes.append(f"{name}: {dropped} negatives left out (max_negatives {limit}): {rule}.")
            if stopped := int((column["sweeps"][own] >= sweeps).sum()):
                notes.append(f"{name}: {stopped} trainings did not converge (max_iter {sweeps}).")
        return notes

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays from which `load_state_dict` continues to the same bytes; without the positives."""
        own = {"weights": self.weights, "bias": self.bias, "trained": self.trained}
        own |= {"log": self.log, "added": self._added}
        return {**{name: array.copy() for name, array in own.items()}, **self.cache.state_dict()}

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Continues where `state_dict` was taken; classes, positives and settings must be the same."""
        if state["weights"].shape != self.weights.shape:
            raise ValueError(f"state of (C, D) {state['weights'].shape}, expected {self.weights.shape}.")
        self.weights, self.bias = np.array(state["weights"], np.float32), np.array(state["bias"], np.float32)
        self.trained, self.log = np.array(state["trained"], bool), np.array(state["log"], np.int64)
        self._added = np.array(state["added"], np.int64)
        self.cache.load_state_dict(state)
