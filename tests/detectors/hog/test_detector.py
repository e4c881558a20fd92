"""The detector on one image: levels, floors, templates that are not trained."""

import numpy as np
import pytest
import torch

from lib.detection import trace
from lib.detectors.hog.detector import Detect, Detector, Proposing
from lib.parallel.clock import Clock
from lib.storage import checkpoint
from tests.detectors.hog import shapes_on_disk as shapes
from tests.detectors.hog.test_features import noise
from tests.detectors.hog.test_network import model, weights_of

SIZES = (5, 4), (3, 7), (6, 6)
SELECTION = shapes.values()["hog"]["detect"]


def detector(folder, trained=(True, True, True), labels=None, bias=(0.0, 0.0, 0.0), **others):
    windows = model(*SIZES, labels=labels)
    checkpoint.save(folder / "windows.pt", windows.sections())
    weights = [torch.from_numpy(part) for part in weights_of(windows)]
    checkpoint.save(folder / "svm.pt", {
        "templates": windows.names, "weights": weights, "bias": torch.tensor(bias), "trained": torch.tensor(trained),
        "notes": [],
    })
    settings = Detect(**{**SELECTION, "floor": 0.0, "regress": False, **others})
    files = {"model": folder / "windows.pt", "scores": folder / "svm.pt"}
    return Detector(files, settings, Proposing(octave=2), None, Clock())


def test_every_window_above_the_floor_with_its_own_class_and_level(tmp_path):
    found = detector(tmp_path, floor=None)
    levels, places = found.prepare(noise(96, 128))
    scored = found((levels, places))
    every = [
        found.windows.boxes(shape, level, *(part.ravel() for part in np.indices(scores.shape)))
        for level, level_places in zip(levels, places, strict=True)
        for shape, scores in zip(found.windows.templates, found._search(level_places), strict=True)
    ]
    assert len(scored.boxes) == sum(map(len, every))
    np.testing.assert_array_equal(np.sort(scored.boxes, axis=0), np.sort(np.concatenate(every), axis=0))
    assert (np.isfinite(scored.scores).sum(axis=1) == 1).all()
    assert set(scored.origin["level"].tolist()) == set(range(len(levels)))
    above = detector(tmp_path, floor=1.0)(found.prepare(noise(96, 128)))
    np.testing.assert_array_equal(above.boxes, scored.boxes[(scored.scores > 1).any(axis=1)])


def test_a_template_without_training_finds_nothing(tmp_path):
    found = detector(tmp_path, trained=(True, False, True))
    scored = found(found.prepare(noise(96, 128)))
    assert not np.isfinite(scored.scores[:, 1]).any()
    assert np.isfinite(scored.scores[:, 0]).any()


def test_templates_of_one_class_share_its_column(tmp_path):
    found = detector(tmp_path, labels=[0, 2, 2])
    scored = found(found.prepare(noise(96, 128)))
    assert not np.isfinite(scored.scores[:, 1]).any()
    sides = scored.boxes[np.isfinite(scored.scores[:, 2])]
    aspects = ((sides[:, 3] - sides[:, 1]) / (sides[:, 2] - sides[:, 0])).tolist()
    assert {0.4, 1.0} <= {round(aspect, 1) for aspect in aspects}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (20, 300), (34, 30)])
def test_images_too_small_for_any_window(tmp_path, height, width):
    """Case 140."""
    found = detector(tmp_path)
    scored = found(found.prepare(noise(height, width)))
    assert (scored.boxes.shape, scored.scores.shape, scored.origin["level"].shape) == ((0, 4), (0, 3), (0,))


def test_the_places_of_a_window_add_up_to_its_score(tmp_path):
    """And the trace shows them of each detection, with its level."""
    found = detector(tmp_path, bias=(0.5, -1.0, 2.0))
    scored = found(found.prepare(noise(96, 128)))
    bias = np.float32([0.5, -1, 2])
    for row in range(0, len(scored.boxes), 50):
        (label,) = np.flatnonzero(np.isfinite(scored.scores[row]))
        parts = scored.parts(row)
        assert parts.shape == found.windows.templates[label].places(found.windows.descriptor)
        assert parts.sum() + bias[label] == pytest.approx(scored.scores[row, label], abs=1e-3)
    steps = trace.describe(trace.trace(scored, (128, 96), Detect(**SELECTION)), found.classes, most=3)
    for shown in steps["detections"]:
        own = bias[found.classes.index(shown["class"])]
        assert np.sum(shown["parts"]) + own == pytest.approx(shown["score"], abs=0.01)
        assert shown["level"] == scored.origin["level"][shown["region"]]
