"""What is learnt: a template of weights for each kind of window, and the search of all windows of an image with them.

T templates, K their places together, D features of a place.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lib.boxes.boxes import Boxes
from lib.compiled import kernel
from lib.detectors.hog.features import Descriptor, Features
from lib.detectors.hog.pyramid import Level, Pyramid, Template, boxes
from lib.stage.errors import Fault, InputError
from lib.storage import checkpoint

PRODUCT = 2**20  # numbers of a product that are held at once: they stay in a core's cache


@dataclass(frozen=True)
class Windows:
    """What `hog_windows` has decided, for all that come after it.

    classes : names, whose positions are the templates' labels
    """

    classes: list[str]
    descriptor: Descriptor
    pyramid: Pyramid
    templates: list[Template]

    @property
    def lengths(self) -> list[int]:
        """Features of a window of each template."""
        return [int(np.prod(template.places(self.descriptor))) * self.descriptor.width for template in self.templates]

    @property
    def names(self) -> list[str]:
        """What each template is called: its class, and which of its templates where it has several."""
        labels = [template.label for template in self.templates]
        return [
            self.classes[label] + (f" {labels[:place].count(label) + 1}" if labels.count(label) > 1 else "")
            for place, label in enumerate(labels)
        ]

    @property
    def notes(self) -> list[str]:
        """What a user should know about classes without a template, a sentence each."""
        labels = {template.label for template in self.templates}
        return [f"{name}: no object to learn from, so it has no template and no scores."
                for label, name in enumerate(self.classes) if label not in labels]

    def boxes(
        self, template: Template, level: Level, rows: NDArray[np.integer], columns: NDArray[np.integer]
    ) -> Boxes:
        """float32 (R, 4): what these windows stand for. rows, columns : of their first places among `padded` ones"""
        padding, descriptor = self.pyramid.padding, self.descriptor
        return boxes(template, level, rows - padding, columns - padding, descriptor.cell, descriptor.first)

    def features(self, index: int, places: Sequence[Features], at: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 (n, length): of windows of a template.

        index : the template's;  places : `padded` ones of each level;  at : int64 (n, 3) level, row, column
        """
        shape = self.templates[index].places(self.descriptor)
        rows = [window(places[level], row, column, shape) for level, row, column in at.tolist()]
        return np.array(rows, np.float32).reshape(-1, self.lengths[index])

    def sections(self) -> dict[str, Any]:
        """The same as contents of a file."""
        return {
            "classes": self.classes,
            "descriptor": self.descriptor.model_dump(),
            "pyramid": self.pyramid.model_dump(),
            "templates": [asdict(template) for template in self.templates],
        }

    @staticmethod
    def load(path: Path) -> "Windows":
        """Those of a file. Raises InputError where it is none."""
        contents = checkpoint.load(path, "classes", "descriptor", "pyramid", "templates")
        return Windows(
            contents["classes"],
            TypeAdapter(Descriptor).validate_python(contents["descriptor"]),
            Pyramid(**contents["pyramid"]),
            [Template(**template) for template in contents["templates"]],
        )


def window(places: Features, row: int, column: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """float32 (length,): the features of one window, places row by row. size : its rows and columns of places"""
    return places[row : row + size[0], column : column + size[1]].reshape(-1)


class Search:
    """The scores of all windows of a level under all templates.

    windows : T templates;  weights : of each, float32 (length,), as `window` orders them;  bias : float32 (T,)

    Every place is multiplied with the weights of every place of every template at once, one product of matrices; a
    window's score is a sum of such products. So the work does not depend on how many sizes of windows there are.
    """

    def __init__(self, windows: Windows, weights: Sequence[NDArray[np.float32]], bias: NDArray[np.float32]) -> None:
        self.sizes = np.array([template.places(windows.descriptor) for template in windows.templates], np.int64)
        self._width = windows.descriptor.width
        rows = np.concatenate([np.asarray(part, np.float32).reshape(-1, self._width) for part in weights])
        self._matrix = torch.from_numpy(rows)
        self._bias = np.asarray(bias, np.float32)

    def __call__(self, places: Features) -> list[NDArray[np.float32]]:
        """float32 (rows - h + 1, columns - w + 1) of each template; without rows or columns where no window fits.

        places : float32 (rows, columns, D), contiguous
        """
        rows, columns, _ = places.shape
        sums = np.zeros((len(self.sizes), rows, columns), np.float32)
        step = max(1, PRODUCT // max(1, len(self._matrix) * columns))
        for start in range(0, rows, step):
            part = torch.from_numpy(places[start : start + step]).view(-1, self._width)
            product = (self._matrix @ part.T).numpy().reshape(len(self._matrix), -1, columns)
            gather(product, start, self.sizes, sums)
        return [
            part[: max(rows - h + 1, 0), : max(columns - w + 1, 0)] + bias
            for part, (h, w), bias in zip(sums, self.sizes.tolist(), self._bias, strict=True)
        ]

    def parts(self, template: int, places: Features, row: int, column: int) -> NDArray[np.float32]:
        """float32 (h, w): what each place of a window adds to its score; the bias is left out.

        template : its number;  places : as above;  row, column : of the window's first place
        """
        high, wide = self.sizes[template].tolist()
        first = int(self.sizes[:template].prod(axis=1).sum())
        weights = self._matrix.numpy()[first : first + high * wide].reshape(high, wide, -1)
        return np.asarray((places[row : row + high, column : column + wide] * weights).sum(axis=2), np.float32)

    def above(
        self, levels: Sequence[Features], floor: NDArray[np.float32]
    ) -> Iterator[tuple[int, int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
        """Windows that score above the floor: level, template, rows, columns, scores, where there are any.

        levels : `padded` places of each;  floor : float32 (T,)
        """
        for number, places in enumerate(levels):
            for template, scores in enumerate(self(places)):
                rows, columns = np.nonzero(scores > floor[template])
                if len(rows):
                    yield number, template, rows, columns, scores[rows, columns]


def templates(
    path: Path, windows: Windows
) -> tuple[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.bool_]]:
    """Weights, bias and whether it is trained of each template, from a file of SVMs.

    Raises InputError where they were trained for other windows.
    """
    contents = checkpoint.load(path, "templates", "weights", "bias", "trained")
    weights = _weights(path, contents, windows)
    return weights, contents["bias"].numpy(), contents["trained"].numpy()


def regressors(path: Path, windows: Windows) -> list[tuple[NDArray[Any], ...]]:
    """Of each template the weights, bias and samples of `BoxRegressors` of one class. Raises InputError as `templates`.
    """
    contents = checkpoint.load(path, "templates", "weights", "bias", "samples")
    weights = _weights(path, contents, windows)
    parts = zip(weights, contents["bias"], contents["samples"].numpy(), strict=True)
    return [(own[None], bias.numpy()[None], samples[None]) for own, bias, samples in parts]


def _weights(path: Path, contents: Mapping[str, Any], windows: Windows) -> list[NDArray[np.float32]]:
    weights = [part.numpy() for part in contents["weights"]]
    if contents["templates"] != windows.names or [len(part) for part in weights] != windows.lengths:
        problem = f"holds the templates {contents['templates']} of {[len(part) for part in weights]} features"
        allowed = f"{windows.names} of {windows.lengths}"
        raise InputError([Fault("other templates", str(path), problem, allowed, "Run: dvc repro")])
    return weights


@kernel
def gather(product, start, sizes, sums):  # type: ignore[no-untyped-def]
    """Adds to every window the products of its places with its template's.

    product : float32 (K, rows, columns) of rows of places from `start`;  sizes : int64 (T, 2) places of each template
    sums    : float32 (T, all rows, columns), a window's sum where its first place is
    """
    rows, columns = product.shape[1], product.shape[2]
    first = 0
    for t in range(len(sizes)):
        high, wide = sizes[t, 0], sizes[t, 1]
        last, across = sums.shape[1] - high, columns - wide + 1
        for y in range(high):
            for x in range(wide):
                for row in range(rows):
                    at = start + row - y
                    if 0 <= at <= last:
                        target, values = sums[t, at], product[first + y * wide + x, row]
                        for i in range(across):
                            target[i] += values[i + x]
        first += high * wide
