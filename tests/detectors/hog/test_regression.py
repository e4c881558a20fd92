"""Which windows teach what moves them, against a search by hand and scikit-learn; and boxes that move at test."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from lib.boxes.boxes import iou
from lib.boxes.coding import decode, encode
from lib.detectors.hog import regression
from lib.detectors.hog.detector import Detect, Detector, Proposing
from lib.detectors.hog.network import Windows, regressors, window
from lib.detectors.hog.pyramid import Store
from lib.images.image_set import ImageSet
from lib.linear.box_ridge import BoxRegressors
from lib.linear.task import Given
from lib.parallel.clock import Clock
from lib.stage.errors import InputError
from lib.storage import checkpoint
from tests.detectors.hog import shapes_on_disk as shapes

FIT = regression.BoxFit(penalty=3.0, more_than=0.6, whitening=0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    shapes.write(folder, train=6, test=2)
    shapes.run(folder, "hog_features", "hog_windows")
    return folder


def given(folder, memory=2**31):
    images = ImageSet(str(folder), folder / "tables", ["train"])
    paths = {"features": folder / "features/hog", "regions": folder / "models/hog/windows.pt"}
    return Given("boxes@hog", "hog", {"hog.boxes": FIT}, 3, images, paths.__getitem__, memory)


def fitted(folder, memory=2**31):
    task = regression.task(given(folder, memory))
    learning = task.begin()
    for step in range(task.steps):
        learning.add(step)
    return task, learning.sections()


def by_hand(folder, index):
    """Features, boxes and objects of all windows of a template that overlap an object of the class: each tried."""
    images, windows = given(folder).images, Windows.load(folder / "models/hog/windows.pt")
    store, template = Store(folder / "features/hog", windows.descriptor, windows.pyramid), windows.templates[index]
    high, wide = template.places(windows.descriptor)
    samples = []
    for image_id in images.ids:
        objects, labels = images.objects(image_id)
        own, size = objects[labels == template.label], images.size(image_id)
        for level, places in zip(store.levels(size), store.read(image_id, size), strict=True):
            for row, column in np.ndindex(max(places.shape[0] - high + 1, 0), max(places.shape[1] - wide + 1, 0)):
                box = windows.boxes(template, level, np.array([row]), np.array([column]))
                overlaps = iou(box, own)[0]
                if overlaps.max(initial=0) > FIT.more_than:
                    samples.append((window(places, row, column, (high, wide)), box[0], own[overlaps.argmax()]))
    return [np.stack(part) for part in zip(*samples, strict=True)]


@pytest.mark.parametrize("index", [0, 1])
def test_the_fit_is_ridge_regression_on_every_close_window(made, index):
    """The bias is penalised as the authors do: a column of ones."""
    task, sections = fitted(made)
    features, boxes, objects = by_hand(made, index)
    assert sections["samples"][index] == len(features) > 10
    targets = encode(boxes, objects)
    mean = targets.mean(axis=0)
    ones = np.hstack([features, np.ones((len(features), 1), np.float32)]).astype(np.float64)
    expected = Ridge(alpha=FIT.penalty, fit_intercept=False).fit(ones, targets - mean).coef_
    np.testing.assert_allclose(sections["weights"][index].numpy(), expected[:, :-1].T, atol=2e-5)
    np.testing.assert_allclose(sections["bias"][index].numpy(), expected[:, -1] + mean, atol=2e-5)
    assert task.work.startswith("6 images, ")


def test_passes_change_nothing(made):
    """Memory for one template at a time."""
    whole, sections = fitted(made)
    parts, again = fitted(made, memory=whole.memory - 1)
    assert (whole.steps, parts.steps) == (6, 12)
    assert parts.memory < whole.memory
    for name in ("weights", "bias"):
        for first, second in zip(sections[name], again[name], strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize(("needs", "limit", "expected"), [
    ([3, 4, 5], 12, [[0, 1, 2]]), ([3, 4, 5], 11, [[0, 1], [2]]), ([9, 1, 1], 2, [[0], [1, 2]]), ([3], 1, [[0]]),
])
def test_groups(needs, limit, expected):
    assert list(regression.groups(needs, limit)) == expected


def test_boxes_move_by_their_own_template_and_features(made):
    """At test, window by window by hand; training windows come closer to their objects."""
    _, sections = fitted(made)
    checkpoint.save(made / "models/hog/boxes.pt", sections)
    shapes.run(made, "svm@hog")
    files = {role: made / f"models/hog/{name}.pt" for role, name in
             (("model", "windows"), ("scores", "svm"), ("boxes", "boxes"))}
    images, windows = given(made).images, Windows.load(files["model"])
    detectors = [Detector(files, Detect(**{**shapes.values()["hog"]["detect"], "floor": None, "regress": regress}),
                          Proposing(octave=windows.pyramid.octave), None, Clock()) for regress in (True, False)]
    image = images.image(images.ids[1])  # which shows both classes
    (levels, places), fixed = detectors[0].prepare(image), detectors[1](detectors[1].prepare(image))
    scored = detectors[0]((levels, places))
    labels = np.isfinite(scored.scores).argmax(axis=1)
    rows = np.arange(len(labels))[::-1]
    assert set(labels.tolist()) == {0, 1}
    moved = scored.refine(rows, labels[rows], scored.boxes[rows])
    np.testing.assert_array_equal(fixed.refine(rows, labels[rows], fixed.boxes[rows]), scored.boxes[rows])
    for row, after in list(zip(rows.tolist(), moved, strict=True))[::211]:
        index = labels[row]  # a template a class
        high, wide = windows.templates[index].places(windows.descriptor)
        level = places[scored.origin["level"][row]]
        grid = np.indices((level.shape[0] - high + 1, level.shape[1] - wide + 1)).reshape(2, -1)
        boxes = windows.boxes(windows.templates[index], levels[scored.origin["level"][row]], *grid)
        (at,) = np.flatnonzero((boxes == scored.boxes[row]).all(axis=1))
        deltas = window(level, *grid[:, at], (high, wide)) @ sections["weights"][index].numpy()
        expected = decode(scored.boxes[row][None], deltas[None] + sections["bias"][index].numpy())[0]
        np.testing.assert_allclose(after, expected, atol=1e-3)
    objects, of = images.objects(images.ids[1])
    assert set(of.tolist()) == {0, 1}
    for box_label in set(of.tolist()):
        own = labels[rows] == box_label
        before = iou(scored.boxes[rows][own], objects[of == box_label]).max(axis=1)
        gained = iou(moved[own], objects[of == box_label]).max(axis=1) - before
        assert gained[before > 0.6].mean() > 0.02


def test_a_template_without_samples_leaves_its_boxes(made, tmp_path):
    windows = Windows.load(made / "models/hog/windows.pt")
    zeros = [torch.ones(length, 4) for length in windows.lengths]
    contents = {"templates": windows.names, "weights": zeros, "bias": [torch.ones(4)] * 2,
                "samples": torch.tensor([0, 3])}
    checkpoint.save(tmp_path / "boxes.pt", contents)
    box, features = np.float32([[0, 0, 10, 10]]), np.zeros((1, windows.lengths[0]), np.float32)
    first, second = (BoxRegressors(*parts) for parts in regressors(tmp_path / "boxes.pt", windows))
    np.testing.assert_array_equal(first.predict(features, box, np.array([0])), box)
    features = np.zeros((1, windows.lengths[1]), np.float32)
    assert (second.predict(features, box, np.array([0])) != box).any()
    checkpoint.save(tmp_path / "boxes.pt", {**contents, "templates": ["other", "names"]})
    with pytest.raises(InputError, match=r"other, *names|\['other', 'names'\]"):
        regressors(tmp_path / "boxes.pt", windows)
