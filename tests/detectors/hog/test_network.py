"""The search against every window by hand; templates and windows as files."""

import numpy as np
import pytest
import torch

from lib.detectors.hog import network
from lib.detectors.hog.features import DalalTriggs, Felzenszwalb
from lib.detectors.hog.network import Search, Windows, templates, window
from lib.detectors.hog.pyramid import Pyramid, Template
from lib.stage.errors import InputError
from lib.storage import checkpoint
from tests.detectors.hog.test_features import DPM, PAPER

BLOCKS, CELLS = DalalTriggs(**PAPER), Felzenszwalb(**DPM)
PYRAMID = Pyramid(upscale=1.0, octave=4, least=5, padding=1)


def model(*sizes, descriptor=BLOCKS, labels=None):
    """Windows of these rows and columns of cells."""
    shapes = [Template(label, *size, 0) for label, size in zip(labels or range(len(sizes)), sizes, strict=True)]
    return Windows(["cat", "dog", "fish"], descriptor, PYRAMID, shapes)


def weights_of(windows, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(size=length).astype(np.float32) for length in windows.lengths]


@pytest.mark.parametrize("product", [1, 3000, 2**20], ids=["a row at once", "a few rows", "all rows"])
@pytest.mark.parametrize("descriptor", [BLOCKS, CELLS])
def test_scores_are_those_of_every_window(monkeypatch, product, descriptor):
    """Three sizes, one of which does not fit; each window cut out and multiplied."""
    monkeypatch.setattr(network, "PRODUCT", product)
    windows = model((5, 4), (3, 7), (13, 4), descriptor=descriptor)
    weights, bias = weights_of(windows), np.float32([0.5, -1, 2])
    places = np.random.default_rng(1).random((8, 11, descriptor.width), np.float32)
    scores = Search(windows, weights, bias)(places)
    for shape, own, own_bias, found in zip(windows.templates, weights, bias, scores, strict=True):
        high, wide = shape.places(descriptor)
        assert found.shape == (max(8 - high + 1, 0), max(11 - wide + 1, 0))
        for row, column in np.ndindex(found.shape):
            expected = window(places, row, column, (high, wide)) @ own + own_bias
            assert found[row, column] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (2, 9)])
def test_levels_below_all_windows(shape):
    """Case 140."""
    windows = model((5, 4))
    (found,) = Search(windows, weights_of(windows), np.zeros(1, np.float32))(np.zeros((*shape, 36), np.float32))
    assert found.size == 0


def test_windows_above_the_floor_alone():
    windows = model((3, 3), (4, 3))
    search = Search(windows, weights_of(windows), np.zeros(2, np.float32))
    levels = [np.random.default_rng(k).random((6, 7 - k, 36), np.float32) for k in range(3)]
    every = [(k, t, search(places)[t]) for k, places in enumerate(levels) for t in range(2)]
    floor = np.float32([np.median(np.concatenate([s.ravel() for _, t, s in every if t == 0])), np.inf])
    hits = list(search.above(levels, floor))
    assert {t for _, t, *_ in hits} == {0}
    for level, template, rows, columns, scores in hits:
        own = search(levels[level])[template]
        assert (scores > floor[0]).all()
        np.testing.assert_array_equal(own[rows, columns], scores)
    assert sum(len(hit[2]) for hit in hits) == sum((s > floor[0]).sum() for _, t, s in every if t == 0)


def test_a_bias_is_added_once_and_weights_stay_in_their_places():
    """Case 143: w (1, 2, 3), b -0.5, x (1, 0, 0) gives 0.5; here a window of a single place."""
    features = DalalTriggs(**{**PAPER, "block": 3, "bins": 2})
    windows = model((3, 3), descriptor=features)
    weights = np.zeros(18, np.float32)
    weights[:3] = 1, 2, 3
    place = np.zeros((1, 1, 18), np.float32)
    place[0, 0, 0] = 1
    assert Search(windows, [weights], np.float32([-0.5]))(place)[0].tolist() == [[0.5]]


def test_names_count_the_templates_of_a_class():
    windows = model((5, 4), (3, 7), (6, 4), labels=[0, 2, 2])
    assert windows.names == ["cat", "fish 1", "fish 2"]
    assert windows.lengths == [4 * 3 * 36, 2 * 6 * 36, 5 * 3 * 36]


@pytest.mark.parametrize("descriptor", [BLOCKS, CELLS])
def test_windows_there_and_back(tmp_path, descriptor):
    windows = model((5, 4), (3, 7), descriptor=descriptor)
    checkpoint.save(tmp_path / "windows.pt", windows.sections())
    assert Windows.load(tmp_path / "windows.pt") == windows
    checkpoint.save(tmp_path / "other.pt", {"classes": []})
    with pytest.raises(InputError, match="other.pt"):
        Windows.load(tmp_path / "other.pt")


def test_templates_there_and_back_and_of_other_windows_refused(tmp_path):
    windows = model((5, 4), (3, 7))
    weights, bias, trained = weights_of(windows), torch.tensor([1.0, 2.0]), torch.tensor([True, False])
    contents = {"templates": windows.names, "weights": [torch.from_numpy(part) for part in weights], "bias": bias}
    checkpoint.save(tmp_path / "svm.pt", {**contents, "trained": trained, "notes": []})
    loaded, loaded_bias, loaded_trained = templates(tmp_path / "svm.pt", windows)
    for own, expected in zip(loaded, weights, strict=True):
        np.testing.assert_array_equal(own, expected)
    assert (loaded_bias.tolist(), loaded_trained.tolist()) == ([1, 2], [True, False])
    with pytest.raises(InputError, match=r"svm.pt: holds the templates .*dvc repro"):
        templates(tmp_path / "svm.pt", model((5, 5), (3, 7)))
