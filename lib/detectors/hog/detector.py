"""HOG at test time: all windows of an image at many sizes, and those that score above a floor (Dalal and Triggs §6).

R windows above the floor, C classes, T templates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.backbones.device import Device, Precision
from lib.boxes.boxes import Boxes
from lib.boxes.selection import Scored, Selection, unmoved
from lib.detectors.hog.features import Features
from lib.detectors.hog.network import Search, Windows, regressors, templates
from lib.detectors.hog.pyramid import Level, describe, padded
from lib.images.decode import Image
from lib.linear.box_ridge import BoxRegressors
from lib.parallel.clock import Clock
from lib.stage.params import Settings


class Detect(Selection):
    """Block `hog.detect`: which windows become detections, and

    regress : move each box by the regressor of its template
    """

    regress: bool
    precision: ClassVar[Precision] = "float32"  # there is no network

    @property
    def margins(self) -> bool:
        """Always: nothing but SVMs scores its windows."""
        return True


class Proposing(Settings):
    """Block `hog.propose`: which windows are looked at.

    octave : levels of the pyramid from one size to half of it (DPM: 10)
    """

    octave: int = Field(ge=1, le=40)


class Detector:
    """Scores all windows of one image after another.

    files    : by role: `model`, what `hog_windows` wrote, and `scores`, the SVMs, and `boxes`, the regressors
    settings : block `hog.detect`;  proposing : block `hog.propose`
    device   : not used, everything is done by the processor;  clock : measures the time of each part
    """

    wants_proposals = False

    def __init__(
        self, files: Mapping[str, Path], settings: Detect, proposing: Proposing, device: Device, clock: Clock
    ) -> None:
        self.windows = Windows.load(files["model"])
        self.classes = self.windows.classes
        weights, bias, trained = templates(files["scores"], self.windows)
        self._search, self._proposing, self._clock = Search(self.windows, weights, bias), proposing, clock
        fitted = regressors(files["boxes"], self.windows) if settings.regress else []
        self._regressors = [BoxRegressors(*parts) for parts in fitted]
        floor = -np.inf if settings.floor is None else settings.floor
        self._floor = np.where(trained, floor, np.inf).astype(np.float32)

    def prepare(self, image: Image, proposals: None = None) -> tuple[list[Level], list[Features]]:
        """The features of all levels; may run in a thread ahead of the rest."""
        model = self.windows
        with self._clock.host("features"):
            levels = model.pyramid.levels(image.shape[1], image.shape[0], model.descriptor, self._proposing.octave)
            described = describe(image, levels, model.descriptor)
            return levels, [padded(places, model.descriptor, model.pyramid.padding) for places in described]

    def __call__(self, prepared: tuple[list[Level], list[Features]]) -> Scored:
        """The windows above the floor with their class's score; minus infinity for the other classes."""
        levels, places = prepared
        boxes: list[Boxes] = [np.zeros((0, 4), np.float32)]
        scores = [np.zeros(0, np.float32)]
        at = [np.zeros((0, 4), np.int64)]  # level, template, row and column of each window
        with self._clock("scores"):
            for number, index, rows, columns, values in self._search.above(places, self._floor):
                template = self.windows.templates[index]
                boxes.append(self.windows.boxes(template, levels[number], rows, columns))
                scores.append(values)
                at.append(np.stack([np.full(len(rows), number), np.full(len(rows), index), rows, columns], axis=1))
            windows = np.concatenate(at)
            labels = np.array([template.label for template in self.windows.templates], np.int64)[windows[:, 1]]
            table = np.full((len(labels), len(self.classes)), -np.inf, np.float32)
            table[np.arange(len(labels)), labels] = np.concatenate(scores)

        def parts(row: int) -> NDArray[np.float32]:
            number, index, down, across = windows[row].tolist()
            return self._search.parts(index, places[number], down, across)

        def refine(rows: NDArray[np.int64], labels: NDArray[np.int64], old: Boxes) -> Boxes:
            moved, index = old.copy(), windows[rows, 1]
            for template in np.unique(index).tolist():
                own = np.flatnonzero(index == template)
                features = self.windows.features(template, places, windows[rows[own]][:, [0, 2, 3]])
                moved[own] = self._regressors[template].predict(features, old[own], np.zeros(len(own), np.int64))
            return moved

        return Scored(
            np.concatenate(boxes), table, refine if self._regressors else unmoved, {"level": windows[:, 0]}, parts
        )
