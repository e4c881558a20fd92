"""One linear SVM per class, with one pass of hard-negative mining (R-CNN paper §2.3, the authors' trainer).

Positives of a class are its objects alone. Negatives are all boxes whose IoU with each of them is
below 0.3, objects of other classes among them. All classes advance together, so each image is read once.

C classes, R boxes of an image, D features.
"""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from lib.linear.feature_norm import refuse_non_finite
from lib.linear.negative_cache import NegativeCache
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings

LOG_COLUMNS = ("image", "class", "negatives", "added", "dropped", "evicted", "sweeps")


class SvmSettings(Settings):
    """Defaults are those of R-CNN and SPPnet.

    C               : weight of the summed hinge losses against half the squared norm
    bias            : value of the constant feature that carries the bias b, which is therefore penalised
    positive_weight : factor on the losses of positives
    negative_iou    : only boxes with a smaller IoU with every object of the class, or none, are negatives
    hard_threshold  : boxes scoring above it enter the cache
    evict_threshold : cached boxes scoring below it after a training leave the cache
    retrain_after   : a class trains again once more than this many boxes entered the cache
    max_negatives   : most negatives of one class in one training
    tol, max_iter   : liblinear's stopping tolerance and its most sweeps over the samples
    """

    C: float = Field(default=1e-3, gt=0)
    bias: float = Field(default=10.0, gt=0)
    positive_weight: float = Field(default=2.0, gt=0)
    negative_iou: float = Field(default=0.3, ge=0, le=1)
    hard_threshold: float = -1.0001
    evict_threshold: float = -1.2
    retrain_after: int = Field(default=2000, ge=0)
    max_negatives: int = Field(default=50_000, ge=1)
    tol: float = Field(default=0.1, gt=0)
    max_iter: int = Field(default=1000, ge=1)


def fit_bytes(samples: int, features: int) -> int:
    """Most memory that `fit` takes on top of its arguments: 8 bytes a value for the float64 matrix, 16 for
    liblinear's sparse copy of it. Zeros take no place in that copy, so features after a ReLU need less.
    """
    return 24 * samples * features + 64 * samples


def mining_bytes(positives: int, own: int, cached: int, negatives: int, features: int) -> int:
    """Memory while one class trains: float32 rows of all positives, of the cache and of its own negatives, and `fit`.

    positives : of all classes;  own : of this class;  cached : rows of the cache;  negatives : those of this class
    """
    return 4 * features * (positives + cached + negatives) + fit_bytes(own + negatives, features)


def require_memory(need: int, limit: float, where: str) -> None:
    """Raises InputError where `need` bytes are more than `limit` bytes."""
    if need > limit:
        problem = f"needs {need / 2**30:.2f} GiB of memory, compute.memory_gib allows {limit / 2**30:.2f}"
        remedy = f"Set compute.memory_gib to {math.ceil(need / 2**29) / 2} or more, or lower svm.max_negatives"
        raise InputError([Fault("too little memory", where, problem, "", remedy)])


def by_class(
    classes: Sequence[str], parts: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
) -> dict[str, NDArray[np.float32]]:
    """Positives of each class, float32 (P, D), from the objects of each image.

    parts : labels int64 (K,) from 0 and features float32 (K, D) of an image's objects; K may be 0
    A class without objects has P = 0. Raises InputError where there is no object at all.
    """
    filled = [(labels, rows) for labels, rows in parts if len(labels)]
    if not filled:
        fault = Fault("no objects", "the training splits", "hold no object of any class", "at least one",
                      "Change splits.train, or keep objects marked difficult")
        raise InputError([fault])
    labels, rows = (np.concatenate(column) for column in zip(*filled, strict=True))
    return {name: rows[labels == label] for label, name in enumerate(classes)}


def fit(
    positives: NDArray[np.float32], negatives: NDArray[np.float32], settings: SvmSettings, seed: int = 0
) -> tuple[NDArray[np.float32], np.float32, int]:
    """The w and b that minimise, with z = w·x + b and h the hinge max(0, 1 - ·),
    ``|w|²/2 + (b/bias)²/2 + C (positive_weight Σ h(z) over positives + Σ h(-z) over negatives)``.

    positives : float32 (P, D), P > 0; negatives : float32 (M, D), M > 0
    seed      : of the order in which liblinear visits the samples
    returns   : w float32 (D,), b, and the number of liblinear's sweeps (max_iter if it did not converge)
    """
    samples = np.empty((len(positives) + len(negatives), positives.shape[1]))
    samples[: len(positives)], samples[len(positives) :] = positives, negatives
    signs = np.where(np.arange(len(samples)) < len(positives), 1, -1)
    machine = LinearSVC(
        loss="hinge", dual=True, C=settings.C, intercept_scaling=settings.bias,
        class_weight={1: settings.positive_weight}, tol=settings.tol, max_iter=settings.max_iter, random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the caller learns the number of sweeps
        machine.fit(samples, signs)
    return machine.coef_[0].astype(np.float32), np.float32(machine.intercept_[0]), int(machine.n_iter_)


class Miner:
    """Trains the SVMs of all classes while the images stream by.

    classes   : names, which give the order of C
    positives : name to float32 (P, D), scaled features of the objects of the class; a name may be absent
    settings  : see `SvmSettings`;  seed : see `fit`
    memory    : bytes that mining may take; a training that needs more raises InputError before it starts

    Afterwards `weights` float32 (C, D), `bias` float32 (C,) and `trained` bool (C,) are the model. A class
    without positives stays untrained, its weights zero; `notes` says so. `log` int64 (L, 7) has a row per
    training, columns `LOG_COLUMNS`: image, class, negatives trained on, boxes that entered since the last
    training, negatives dropped for `max_negatives` before it, negatives evicted after it, liblinear's sweeps.
    """

    def __init__(
        self, classes: Sequence[str], positives: Mapping[str, NDArray[np.float32]], settings: SvmSettings,
        seed: int = 0, memory: float = math.inf,
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
        wanted = hard & ((overlaps < self.settings.negative_iou) | (overlaps == 0)) & (self.positives > 0)
        self._added += self.cache.admit(image, features, wanted)
        due = ~self.trained | (self._added > self.settings.retrain_after) | last
        due &= self.cache.held.any(axis=0)
        for label in np.flatnonzero(due):
            self._train(image, int(label))
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
        need = mining_bytes(int(self.positives.sum()), own, len(self.cache), len(held), features)
        require_memory(need, self._memory, f"the SVM of {self.classes[label]}, {len(held)} negatives")
        weights, bias, sweeps = fit(self._positives[label], negatives, self.settings, self._seed)
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
        for label, (name, count) in enumerate(zip(self.classes, self.positives, strict=True)):
            own = column["class"] == label
            if count == 0:
                notes.append(f"{name}: no object to learn from, so it has no SVM and no scores.")
            elif not self.trained[label]:
                notes.append(f"{name}: no negative was found, so it has no SVM and no scores.")
            elif count == 1:
                notes.append(f"{name}: its SVM rests on one object.")
            if dropped := int(column["dropped"][own].sum()):
                notes.append(f"{name}: the {dropped} easiest negatives left out (max_negatives {limit}).")
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
