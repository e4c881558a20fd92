"""Class-wise ridge regression from features to boxes (R-CNN paper, appendix C; SPPnet; the authors' code).

Sums stream, so memory does not grow with the samples. With X the features and a last column of ones, the fit
needs XᵀX, XᵀY and YᵀY alone: the last row of XᵀX holds the column sums and n, that of XᵀY sums of targets.

C classes, R boxes, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.blas import dsyrk

from lib.core.box_coding import LARGEST_LOG, decode, encode
from lib.core.boxes import Boxes, iou
from lib.learners.feature_norm import refuse_non_finite


def pair(boxes: Boxes, objects: Boxes, more_than: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which boxes to learn from, and the object each is to be moved onto.

    boxes     : float32 (R, 4)  the objects themselves included, as in the original; they teach "do not move"
    objects   : float32 (S, 4)  of all classes; a sample belongs to the class of its object
    more_than : IoU with the best object must be above it: R-CNN 0.6, SPPnet 0.5
    returns   : int64 (n,) rows of boxes, ascending; int64 (n,) their objects: largest IoU, first of equals
    """
    if len(objects) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    overlaps = iou(boxes, objects)
    rows = np.flatnonzero(overlaps.max(axis=1) > more_than)
    return rows, overlaps[rows].argmax(axis=1)


def ridge_bytes(classes: int, features: int, block_rows: int) -> int:
    """Memory of a `BoxRidge` while it fits: C + 1 matrices of (D+1)² doubles, and the samples that wait.

    Where this is too much, fit some of the classes at a time, in several passes over the features.
    """
    return 8 * (classes + 1) * (features + 1) ** 2 + 4 * block_rows * (features + 1) * 3


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
    """Collects samples image by image, then fits every class at once.

    classes, features : C and D
    block_rows        : samples that wait before they are multiplied in; more are faster and take more memory
    """

    def __init__(self, classes: int, features: int, block_rows: int = 4096) -> None:
        self._block_rows = block_rows
        # Only the upper triangle of each XᵀX is filled.
        self._xx = np.zeros((classes, features + 1, features + 1))
        self._xy = np.zeros((classes, features + 1, 4))
        self._yy = np.zeros((classes, 4, 4))
        self._waiting: list[tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]] = []

    def add(
        self, features: NDArray[np.float32], boxes: Boxes, objects: Boxes, labels: NDArray[np.integer]
    ) -> None:
        """Samples of one image, chosen by `pair`.

        features : float32 (R, D), scaled; boxes, objects : float32 (R, 4); labels : int (R,) classes
        """
        features = np.asarray(features, np.float32)
        refuse_non_finite(features, "samples for box regression")
        self._waiting.append((features, encode(boxes, objects), np.asarray(labels, np.int64)))
        if sum(len(part[0]) for part in self._waiting) >= self._block_rows:
            self._multiply()

    def _multiply(self) -> None:
        if not self._waiting:
            return
        features, targets, labels = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        for label in np.unique(labels):
            rows = labels == label
            x = np.ones((int(rows.sum()), features.shape[1] + 1))
            x[:, :-1], y = features[rows], targets[rows].astype(np.float64)
            # In place: a lower triangle in Fortran's order is our upper one.
            dsyrk(1.0, x.T, beta=1.0, c=self._xx[label].T, lower=1, overwrite_c=1)
            self._xy[label] += x.T @ y
            self._yy[label] += y.T @ y

    def fit(self, penalty: float = 1000.0, whitening: float = 0.001) -> BoxRegressors:
        """Ridge regression of the whitened targets of each class.

        penalty   : on the squared weights, the bias among them, against the **sum** of squared errors;
                    R-CNN 1000, SPPnet 4000
        whitening : added to the variances of the targets before their inverse root is taken

        The authors whiten the targets before the fit and undo it after. While the four columns share one
        penalty and all samples are used, this changes nothing but rounding.
        """
        self._multiply()
        maps = np.zeros_like(self._xy)
        samples = np.rint(self._xx[:, -1, -1]).astype(np.int64)
        for label in np.flatnonzero(samples):
            xy, sums = self._xy[label], self._xx[label, :, -1]
            mean = xy[-1] / samples[label]
            spread = self._yy[label] / samples[label] - np.outer(mean, mean)
            variances, axes = np.linalg.eigh(spread)
            roots = np.sqrt(np.maximum(variances, 0) + whitening)
            whiten, restore = (axes / roots) @ axes.T, (axes * roots) @ axes.T
            system = self._xx[label].copy()
            np.fill_diagonal(system, system.diagonal() + penalty)
            factor = cho_factor(system, lower=False, overwrite_a=True, check_finite=False)
            maps[label] = cho_solve(factor, (xy - np.outer(sums, mean)) @ whiten) @ restore
            maps[label, -1] += mean
        return BoxRegressors(maps[:, :-1].astype(np.float32), maps[:, -1].astype(np.float32), samples)

    def state_dict(self) -> dict[str, NDArray[np.generic]]:
        """Plain arrays from which `load_state_dict` goes on with the same bytes."""
        width = self._xx.shape[1] - 1
        empty = (np.empty((0, width), np.float32), np.empty((0, 4), np.float32), np.empty(0, np.int64))
        waiting = zip(empty, *self._waiting, strict=True)
        features, targets, labels = (np.concatenate(parts) for parts in waiting)
        return {
            "xx": self._xx.copy(),
            "xy": self._xy.copy(),
            "yy": self._yy.copy(),
            "waiting_features": features,
            "waiting_targets": targets,
            "waiting_labels": labels,
        }

    def load_state_dict(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Goes on where `state_dict` was taken; classes, features and block_rows must be the same."""
        if state["xx"].shape != self._xx.shape:
            raise ValueError(f"state of shape {state['xx'].shape}, expected {self._xx.shape}.")
        self._xx, self._xy = np.array(state["xx"], np.float64), np.array(state["xy"], np.float64)
        self._yy = np.array(state["yy"], np.float64)
        features = np.array(state["waiting_features"], np.float32)
        targets = np.array(state["waiting_targets"], np.float32)
        labels = np.array(state["waiting_labels"], np.int64)
        self._waiting = [(features, targets, labels)] if len(labels) else []
