"""Class-wise ridge regression from features to boxes (R-CNN paper, appendix C; SPPnet; the authors' code).

Of a class with more samples than features only sums are kept, so memory does not grow with the samples: with X the
features and a last column of ones, the fit needs XᵀX, whose last row holds the column sums, and XᵀY. Of a class
with fewer, the rows are kept and XXᵀ is solved: the same numbers from a smaller system.

C classes, R boxes, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from lib.boxes.boxes import Boxes
from lib.boxes.coding import LARGEST_LOG, decode, encode
from lib.linear.feature_norm import refuse_non_finite

BLOCK = 1024  # rows that are buffered before they are added to the sums


def ridge_bytes(samples: Sequence[int], features: int) -> int:
    """Memory of a `BoxRidge` while it fits classes of these samples: rows or matrices of all, and the work on one."""
    width = features + 1
    stored = [4 * width * min(count, BLOCK) + 8 * width**2 if count > width else 4 * width * count for count in samples]
    work = [8 * width**2 if count > width else 8 * count * (width + 2 * count) for count in samples]
    return sum(stored) + max(work, default=0)


def class_groups(samples: Sequence[int], features: int, limit: int) -> list[range]:
    """The classes in consecutive groups, one pass over the features each.

    No group needs more than `limit` bytes, unless a single class does.
    """
    groups: list[range] = []
    for label in range(len(samples)):
        wider = range(groups[-1].start if groups else 0, label + 1)
        if groups and ridge_bytes([samples[index] for index in wider], features) <= limit:
            groups[-1] = wider
        else:
            groups.append(range(label, label + 1))
    return groups


@dataclass(frozen=True)
class BoxRegressors:
    """Linear maps from features to deltas: ``deltas = features @ weights[c] + bias[c]``.

    weights : float32 (C, D, 4); bias : float32 (C, 4); samples : int64 (C,) how many each was fitted on
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    samples: NDArray[np.int64]

    @staticmethod
    def join(parts: list["BoxRegressors"]) -> "BoxRegressors":
        """The regressors of several groups of classes, in that order."""
        return BoxRegressors(*(
            np.concatenate([getattr(part, name) for part in parts]) for name in ("weights", "bias", "samples")
        ))

    @property
    def trained(self) -> NDArray[np.bool_]:
        """bool (C,): classes with samples. The others leave boxes as they are."""
        return np.asarray(self.samples > 0)

    def predict(
        self,
        features: NDArray[np.float32],
        boxes: Boxes,
        labels: NDArray[np.integer],
        largest_log: float = LARGEST_LOG,
    ) -> Boxes:
        """Each box moved by the regressor of its class; neither clipped nor rounded.

        features : float32 (R, D), scaled as in training; boxes : float32 (R, 4); labels : int (R,) classes
        returns  : float32 (R, 4)
        """
        moved = np.array(boxes, np.float32).reshape(-1, 4)
        for label in np.unique(labels):
            rows = np.flatnonzero(np.asarray(labels) == label)
            if self.trained[label]:
                deltas = features[rows] @ self.weights[label] + self.bias[label]
                moved[rows] = decode(moved[rows], deltas, largest_log)
        return moved


class BoxRidge:
    """Collects the samples of every class image by image, then fits each.

    samples  : how many each of the C classes will get, as `pair` counts them;  features : D
    """

    def __init__(self, samples: Sequence[int], features: int) -> None:
        self._classes = [_ClassRidge(int(count), features + 1) for count in samples]

    def add(
        self, features: NDArray[np.float32], boxes: Boxes, objects: Boxes, labels: NDArray[np.integer]
    ) -> None:
        """Samples of one image, from `pair`.

        features : float32 (R, D), scaled; boxes, objects : float32 (R, 4); labels : int (R,) classes
        """
        refuse_non_finite(features, "samples for box regression")
        targets, labels = encode(boxes, objects), np.asarray(labels)
        for label in np.unique(labels):
            rows = labels == label
            self._classes[label].add(features[rows], targets[rows])

    def fit(self, penalty: float = 1000.0, whitening: float = 0.001) -> BoxRegressors:
        """Ridge regression of the whitened targets of each class.

        penalty   : on the squared weights, the bias among them, against the **sum** of squared errors;
                    R-CNN 1000, SPPnet 4000
        whitening : added to the variances of the targets before their inverse root is taken
        raises    : ValueError where a class got another number of samples than announced

        The authors whiten the targets before the fit and undo it after. While the four columns share one
        penalty and all samples are used, this changes nothing but rounding.
        """
        maps = np.stack([ridge.fit(penalty, whitening) for ridge in self._classes])
        samples = np.array([ridge.count for ridge in self._classes], np.int64)
        return BoxRegressors(maps[:, :-1].astype(np.float32), maps[:, -1].astype(np.float32), samples)


class _ClassRidge:
    """The samples of a class, X (n, W) with a last column of ones and Y (n, 4).

    X is kept where n <= W; otherwise the sum XᵀX is, so that memory does not grow with the samples.
    """

    def __init__(self, count: int, width: int) -> None:
        self.count, self._done = count, 0
        self._y = np.zeros((count, 4))
        self._x = np.ones((count if count <= width else min(count, BLOCK), width), np.float32)
        self._filled = 0
        # Only the upper triangle is filled.
        self._xx = np.zeros((width, width)) if count > width else None
        self._xy = np.zeros((width, 4))

    def add(self, features: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        if self._done + len(features) > self.count:
            raise ValueError(f"more than the {self.count} samples announced")
        self._y[self._done : self._done + len(features)] = targets
        while len(features):
            part = features[: len(self._x) - self._filled]
            self._x[self._filled : self._filled + len(part), :-1] = part
            self._filled, self._done = self._filled + len(part), self._done + len(part)
            features = features[len(part) :]
            if self._xx is not None and self._filled == len(self._x):
                self._multiply(self._xx)

    def _multiply(self, xx: NDArray[np.float64]) -> None:
        """Adds the buffered rows to the sums."""
        x = self._x[: self._filled].astype(np.float64)
        # In place: a lower triangle in Fortran's order is our upper one.
        dsyrk(1.0, x.T, beta=1.0, c=xx.T, lower=1, overwrite_c=1)
        self._xy += x.T @ self._y[self._done - self._filled : self._done]
        self._filled = 0

    def fit(self, penalty: float, whitening: float) -> NDArray[np.float64]:
        """(W, 4): deltas = [features 1] @ it; zeros without samples."""
        if self._done != self.count:
            raise ValueError(f"{self._done} samples, where {self.count} were announced")
        if not self.count:
            return np.zeros_like(self._xy)
        mean = self._y.mean(0)
        centred = self._y - mean
        variances, axes = np.linalg.eigh(centred.T @ centred / self.count)
        roots = np.sqrt(np.maximum(variances, 0) + whitening)
        whiten, restore = (axes / roots) @ axes.T, (axes * roots) @ axes.T
        if self._xx is None:  # (XᵀX + λ)⁻¹ Xᵀ = Xᵀ (XXᵀ + λ)⁻¹, the smaller system
            x = self._x.astype(np.float64)
            fitted = x.T @ _solve(x @ x.T, penalty, centred @ whiten) @ restore
        else:
            self._multiply(self._xx)
            sums = self._xx[:, -1]
            fitted = _solve(self._xx.copy(), penalty, (self._xy - np.outer(sums, mean)) @ whiten) @ restore
        fitted[-1] += mean
        return np.asarray(fitted)


def _solve(system: NDArray[np.float64], penalty: float, right: NDArray[np.float64]) -> NDArray[np.float64]:
    """(system + penalty · 1)⁻¹ right, of a symmetric system given by its upper triangle, which is overwritten."""
    np.fill_diagonal(system, system.diagonal() + penalty)
    return np.asarray(cho_solve(cho_factor(system, lower=False, overwrite_a=True, check_finite=False), right))
