"""Linear SVMs and box regressors as files, and their use on the features of a region (R-CNN and SPPnet).

R regions of an image, C classes, D features.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.boxes.selection import Refine
from lib.linear.box_ridge import BoxRegressors
from lib.stage.errors import Fault, InputError
from lib.storage import checkpoint

Rows = Mapping[str, NDArray[np.float32]]


def classifiers(
    classes: list[str], layer: str, scale: float, weights: NDArray[np.float32], bias: NDArray[np.float32],
    trained: NDArray[np.bool_], notes: list[str],
) -> dict[str, Any]:
    """SVMs as the contents of a file: weights (C, D) and bias (C,) for features of `layer` times `scale`."""
    arrays = {"weights": weights, "bias": bias, "trained": trained}
    return {"classes": classes, "layer": layer, "scale": scale, "notes": notes, **_tensors(arrays)}


def regressors(classes: list[str], layer: str, scale: float, fitted: BoxRegressors) -> dict[str, Any]:
    """Box regressors as the contents of a file, for features of `layer` times `scale`."""
    arrays = {"weights": fitted.weights, "bias": fitted.bias, "samples": fitted.samples}
    return {"classes": classes, "layer": layer, "scale": scale, **_tensors(arrays)}


class Classifiers:
    """The SVMs of a file. Raises InputError if it was trained for other classes."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        contents = checkpoint.load(path, "classes", "layer", "scale", "weights", "bias", "trained")
        _same_classes(path, contents["classes"], classes)
        self._layer, self._scale = contents["layer"], np.float32(contents["scale"])
        self._weights, self._bias = contents["weights"].numpy().T.copy(), contents["bias"].numpy()
        self._trained = contents["trained"].numpy()

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        """float32 (R, C): signed distances; minus infinity where a class has no SVM."""
        scores = rows[self._layer] * self._scale @ self._weights + self._bias
        scores[:, ~self._trained] = -np.inf
        return np.asarray(scores, np.float32)


class Regressors:
    """The box regressors of a file. Raises InputError if they were fitted for other classes."""

    def __init__(self, path: Path, classes: list[str]) -> None:
        contents = checkpoint.load(path, "classes", "layer", "scale", "weights", "bias", "samples")
        _same_classes(path, contents["classes"], classes)
        self._layer, self._scale = contents["layer"], np.float32(contents["scale"])
        self._fitted = BoxRegressors(*(contents[name].numpy() for name in ("weights", "bias", "samples")))

    def refine(self, rows: Rows) -> Refine:
        """The function (rows int64 (K,), labels int64 (K,) from 0, boxes (K, 4)) -> moved boxes (K, 4)."""
        features = rows[self._layer]
        return lambda selected, labels, boxes: self._fitted.predict(features[selected] * self._scale, boxes, labels)


def _tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def _same_classes(path: Path, trained: list[str], wanted: list[str]) -> None:
    if trained != wanted:
        raise InputError(
            [Fault("other classes", str(path), f"was trained for {trained}", f"the classes {wanted}", "Run: dvc repro")]
        )
