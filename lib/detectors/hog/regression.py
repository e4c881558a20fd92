"""How a window's own features move its box onto the object (R-CNN paper, appendix C, in place of voc-dpm's
bboxpred: a root without parts would give it nothing but the window's size).

Every window that overlaps an object of its class enough is a sample, whatever its score. T templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from lib.boxes.boxes import Boxes
from lib.boxes.samples import pair
from lib.detectors.hog.network import Windows
from lib.detectors.hog.pyramid import Level, Store, Template
from lib.linear.box_ridge import BoxRegressors, BoxRidge, ridge_bytes
from lib.linear.task import Given, Learning, Task
from lib.stage.params import Settings

Samples = tuple[NDArray[np.int64], Boxes, Boxes]  # (n, 3) level, row, column of windows, their boxes, their objects


class BoxFit(Settings):
    """Block `hog.boxes`.

    penalty   : ridge λ, on the sum of squared errors, bias included (R-CNN 1000, at a mean norm of 20)
    more_than : IoU with its object that a window must exceed (R-CNN 0.6)
    whitening : added to the variances of the targets (R-CNN's authors: 0.001)
    """

    penalty: float = Field(gt=0)
    more_than: float = Field(ge=0, lt=1)
    whitening: float = Field(gt=0)


def reads(method: str) -> dict[str, Any]:
    """The settings of the regressors."""
    return {f"{method}.boxes": BoxFit}


def task(given: Given) -> Task[Learning]:
    """Reads the roles `features`, the places of all training images, and `regions`, what `hog_windows` wrote."""
    settings, images = given.params[f"{given.method}.boxes"], given.images
    windows = Windows.load(given.path("regions"))
    store = Store(given.path("features"), windows.descriptor, windows.pyramid)
    samples: list[list[Samples]] = []
    for image_id in images.ids:
        levels, (objects, labels) = store.levels(images.size(image_id)), images.objects(image_id)
        samples.append([
            close(windows, template, levels, objects[labels == template.label], settings.more_than)
            for template in windows.templates
        ])
    counts = [sum(len(parts[t][0]) for parts in samples) for t in range(len(windows.templates))]
    needs = [ridge_bytes([count], length) for count, length in zip(counts, windows.lengths, strict=True)]
    passes = list(groups(needs, given.memory))
    work = f"{len(images)} images, {sum(counts)} samples of {len(counts)} templates in {len(passes)} passes"
    memory = max(sum(needs[t] for t in group) for group in passes)

    def begin() -> WindowRegression:
        return WindowRegression(given, windows, store, samples, counts, passes)

    return Task(len(passes) * len(images), begin, work, memory)


def close(windows: Windows, template: Template, levels: Sequence[Level], objects: Boxes, more_than: float) -> Samples:
    """The windows of a template in an image that are to be moved onto an object, as `pair` says; level by level.

    levels : of the image;  objects : float32 (K, 4) of the template's class
    """
    at, boxes, targets = [np.zeros((0, 3), np.int64)], [np.zeros((0, 4), np.float32)], [np.zeros((0, 4), np.float32)]
    high, wide = template.places(windows.descriptor)
    around = 2 * windows.pyramid.padding
    for number, level in enumerate(levels if len(objects) else ()):
        sides = max(level.rows + around - high + 1, 0), max(level.columns + around - wide + 1, 0)
        rows, columns = (part.ravel() for part in np.indices(sides))
        every = windows.boxes(template, level, rows, columns)
        near, own = pair(every, objects, more_than)
        at.append(np.stack([np.full(len(near), number), rows[near], columns[near]], axis=1))
        boxes.append(every[near])
        targets.append(objects[own])
    return np.concatenate(at), np.concatenate(boxes), np.concatenate(targets)


def groups(needs: Sequence[int], limit: int) -> Iterator[list[int]]:
    """The templates in consecutive groups, a pass each, none with more than `limit` bytes unless a single one needs it.

    needs : bytes of each template
    """
    group: list[int] = []
    for template, need in enumerate(needs):
        if group and sum(needs[t] for t in group) + need > limit:
            yield group
            group = []
        group.append(template)
    yield group


class WindowRegression:
    """The fit, template by template where memory does not hold all; a step is an image of a pass.

    samples : of each image, of each template;  counts : of each template;  passes : the templates of each
    """

    def __init__(
        self, given: Given, windows: Windows, store: Store, samples: Sequence[Sequence[Samples]], counts: Sequence[int],
        passes: Sequence[Sequence[int]],
    ) -> None:
        self._settings, self._images = given.params[f"{given.method}.boxes"], given.images
        self._windows, self._store = windows, store
        self._samples, self._counts, self._passes = samples, counts, passes
        self._fitted: list[BoxRegressors] = []

    def add(self, step: int) -> None:
        """See `task.Learning`."""
        turn, number = divmod(step, len(self._images))
        group, image_id = self._passes[turn], self._images.ids[number]
        if number == 0:
            self._ridges = {t: BoxRidge([self._counts[t]], self._windows.lengths[t]) for t in group}
        if any(len(self._samples[number][t][0]) for t in group):
            places = self._store.read(image_id, self._images.size(image_id))
            for t in group:
                at, boxes, objects = self._samples[number][t]
                features = self._windows.features(t, places, at)
                self._ridges[t].add(features, boxes, objects, np.zeros(len(at), np.int64))
        if number + 1 == len(self._images):
            self._fitted += [
                ridge.fit(self._settings.penalty, self._settings.whitening) for ridge in self._ridges.values()
            ]

    def sections(self) -> Mapping[str, Any]:
        """For `network.regressors`."""
        return {
            "templates": self._windows.names,
            "weights": [torch.from_numpy(part.weights[0].copy()) for part in self._fitted],
            "bias": [torch.from_numpy(part.bias[0].copy()) for part in self._fitted],
            "samples": torch.tensor([int(part.samples[0]) for part in self._fitted]),
        }
