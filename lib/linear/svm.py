"""A linear SVM: its settings, its training, and the memory that this takes. `mining` finds its negatives.

D features.
"""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import LinearSVC

from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings


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
