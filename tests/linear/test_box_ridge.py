"""Ridge regression of boxes against hand-worked numbers, the written-out formula and scikit-learn."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import Ridge

from lib.boxes.coding import decode, encode
from lib.linear import box_ridge
from lib.linear.box_ridge import BoxRegressors, BoxRidge, class_groups, ridge_bytes
from lib.stage.errors import InputError

Sample = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def images(count: int = 12, features: int = 30, classes: int = 3, seed: int = 0) -> list[Sample]:
    """Features that carry some of the deltas, about 20 samples an image; the last class never occurs."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(4, features))
    out = []
    for _ in range(count):
        rows = int(rng.integers(0, 40))
        corner = rng.uniform(0, 100, (rows, 2))
        boxes = np.hstack([corner, corner + rng.uniform(20, 80, (rows, 2))]).astype(np.float32)
        deltas = (rng.normal(0.05, 0.1, (rows, 4)) @ np.diag([1, 0.5, 2, 1])).astype(np.float32)
        noise = rng.normal(size=(rows, features))
        values = np.maximum(deltas @ mixing * 5 + noise + 1, 0).astype(np.float32)
        out.append((values, boxes, decode(boxes, deltas), rng.integers(0, classes - 1, rows)))
    return out


def collect(samples: list[Sample], classes: int = 3) -> BoxRidge:
    counts = np.bincount(np.concatenate([labels for *_, labels in samples]), minlength=classes)
    ridge = BoxRidge(counts.tolist(), samples[0][0].shape[1])
    for sample in samples:
        ridge.add(*sample)
    return ridge


def of_class(samples: list[Sample], label: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X with its column of ones, and Y, of all samples of a class at once."""
    x = np.concatenate([features[labels == label] for features, _, _, labels in samples]).astype(np.float64)
    y = np.concatenate([encode(b, o)[labels == label] for _, b, o, labels in samples]).astype(np.float64)
    return np.hstack([x, np.ones((len(x), 1))]), y


def written_out(x: NDArray[np.float64], y: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
    """The five steps of the authors' code on whole matrices; the map of deltas = [x 1] @ map + mean."""
    mean = y.mean(axis=0)
    centred = y - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(y))
    whiten = axes @ np.diag(1 / np.sqrt(variances + 0.001)) @ axes.T
    restore = axes @ np.diag(np.sqrt(variances + 0.001)) @ axes.T
    beta = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (centred @ whiten))
    out = beta @ restore
    out[-1] += mean
    return out


def test_one_feature_by_hand() -> None:
    """x = -1, 1 and dx = -0.1, 0.1: XᵀX = 2, Xᵀy = 0.2, so with a penalty of 2 the slope is 0.2 / 4."""
    boxes = np.float32([[0, 0, 10, 10]] * 2)
    objects = np.float32([[-1, 0, 9, 10], [1, 0, 11, 10]])
    ridge = BoxRidge([2], features=1)
    ridge.add(np.float32([[-1], [1]]), boxes, objects, np.array([0, 0]))
    model = ridge.fit(penalty=2)
    np.testing.assert_allclose(model.weights[0], [[0.05, 0, 0, 0]], atol=1e-7)
    np.testing.assert_allclose(model.bias[0], np.zeros(4), atol=1e-7)
    moved = model.predict(np.float32([[2]]), boxes[:1], np.array([0]))
    np.testing.assert_allclose(moved, [[1, 0, 11, 10]], atol=1e-6)


def test_equal_targets_are_predicted_whatever_the_penalty() -> None:
    """The mean is taken off before the fit, so the penalty on the bias cannot pull it to zero."""
    boxes, objects = np.float32([[0, 0, 10, 10]] * 3), np.float32([[2, 0, 12, 10]] * 3)
    ridge = BoxRidge([3], 2)
    ridge.add(np.float32([[1, 0], [0, 1], [3, 1]]), boxes, objects, np.zeros(3, int))
    for penalty in (1.0, 1e9):
        np.testing.assert_allclose(ridge.fit(penalty).bias[0], [0.2, 0, 0, 0], atol=1e-7)


@pytest.mark.parametrize("features", [30, 400])
@pytest.mark.parametrize("penalty", [1.0, 1000.0, 4000.0])
def test_equals_the_formula_written_out(penalty: float, features: int) -> None:
    """With fewer features than samples and with more: from the sums, and from the rows."""
    samples = images(features=features)
    model = collect(samples).fit(penalty)
    for label in (0, 1):
        expected = written_out(*of_class(samples, label), penalty)
        np.testing.assert_allclose(model.weights[label], expected[:-1], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(model.bias[label], expected[-1], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("penalty", [1.0, 1000.0])
def test_equals_scikit_learn(penalty: float) -> None:
    """Ridge without intercept on [X 1] and centred targets: bias penalised, sum of squares, unwhitened."""
    samples = images(seed=1)
    model = collect(samples).fit(penalty)
    x, y = of_class(samples, 1)
    oracle = Ridge(alpha=penalty, fit_intercept=False, solver="cholesky").fit(x, y - y.mean(axis=0))
    np.testing.assert_allclose(model.weights[1], oracle.coef_[:, :-1].T, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(model.bias[1], oracle.coef_[:, -1] + y.mean(axis=0), rtol=1e-4, atol=1e-8)


def test_whitening_changes_nothing_but_rounding() -> None:
    ridge = collect(images())
    usual, strong = ridge.fit(whitening=0.001), ridge.fit(whitening=5.0)
    np.testing.assert_allclose(usual.weights, strong.weights, atol=1e-9)


@pytest.mark.parametrize("count", [30, 31, 32])
def test_as_many_samples_as_features_or_one_more(count: int) -> None:
    """Both ways meet at n = D + 1."""
    rng = np.random.default_rng(count)
    x, boxes = rng.normal(size=(count, 30)).astype(np.float32), np.tile(np.float32([0, 0, 10, 10]), (count, 1))
    objects = boxes + rng.uniform(0, 1, (count, 4)).astype(np.float32)
    samples = [(x, boxes, objects, np.zeros(count, np.int64))]
    expected = written_out(*of_class(samples, 0), 10.0)
    model = collect(samples, classes=1).fit(10.0)
    np.testing.assert_allclose(model.weights[0], expected[:-1], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(model.bias[0], expected[-1], rtol=1e-4, atol=1e-7)


def test_it_learns() -> None:
    """Predictions on images it has not seen are nearer the objects than the boxes were, by far."""
    samples = images(count=60)
    model = collect(samples[:50]).fit(penalty=1.0)
    boxes, objects = (np.concatenate([sample[i] for sample in samples[50:]]) for i in (1, 2))
    features, labels = (np.concatenate([sample[i] for sample in samples[50:]]) for i in (0, 3))
    moved = model.predict(features, boxes, labels)
    assert np.abs(moved - objects).mean() < 0.7 * np.abs(boxes - objects).mean()


def test_groups_of_classes_join_to_the_whole() -> None:
    """Several passes with fewer classes each, for want of memory, give the same regressors."""
    samples = images()
    parts = []
    for group in ([0], [1, 2]):
        own = [np.isin(labels, group) for *_, labels in samples]
        parts.append(collect(
            [
                (*(array[rows] for array in sample[:3]), sample[3][rows] - group[0])
                for sample, rows in zip(samples, own, strict=True)
            ],
            len(group),
        ).fit())
    joined, whole = BoxRegressors.join(parts), collect(samples).fit()
    np.testing.assert_array_equal(joined.samples, whole.samples)
    np.testing.assert_allclose(joined.weights, whole.weights, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(joined.bias, whole.bias, rtol=1e-5, atol=1e-9)


def test_block_size_changes_only_rounding(monkeypatch) -> None:
    samples = images()
    whole = collect(samples).fit()
    for block in (1, 7):
        monkeypatch.setattr(box_ridge, "BLOCK", block)
        pieces = collect(samples).fit()
        np.testing.assert_allclose(whole.weights, pieces.weights, rtol=1e-4, atol=1e-9)
        np.testing.assert_array_equal(whole.samples, pieces.samples)


def test_another_number_of_samples_than_announced_is_an_error() -> None:
    box = np.float32([[0, 0, 1, 1]] * 3)
    features, labels = np.zeros((3, 2), np.float32), np.zeros(3, int)
    with pytest.raises(ValueError, match="more than the 2 samples"):
        BoxRidge([2], 2).add(features, box, box, labels)
    ridge = BoxRidge([4], 2)
    ridge.add(features, box, box, labels)
    with pytest.raises(ValueError, match="3 samples, where 4 were announced"):
        ridge.fit()


def test_a_class_without_samples_leaves_boxes_alone() -> None:
    samples = images()
    model = collect(samples).fit()
    np.testing.assert_array_equal(model.trained, [True, True, False])
    assert model.samples[2] == 0
    assert model.samples.sum() == sum(len(sample[0]) for sample in samples)
    features, boxes = samples[0][0][:4], samples[0][1][:4]
    moved = model.predict(features, boxes, np.array([2, 0, 2, 1]))
    assert moved[[0, 2]].tobytes() == boxes[[0, 2]].tobytes()
    assert (moved[[1, 3]] != boxes[[1, 3]]).any(axis=1).all()
    assert not np.isnan(model.weights).any()


def test_each_row_is_moved_by_the_regressor_of_its_class() -> None:
    bias = np.float32([[0.1, 0, 0, 0], [0, -0.1, 0, 100]])
    model = BoxRegressors(np.zeros((2, 3, 4), np.float32), bias, np.array([5, 5]))
    box = np.float32([[0, 0, 10, 10]])
    moved = model.predict(np.zeros((2, 3), np.float32), np.repeat(box, 2, axis=0), np.array([1, 0]))
    np.testing.assert_allclose(moved, [[0, 4 - 312.5, 10, 4 + 312.5], [1, 0, 11, 10]], rtol=1e-6)
    assert model.predict(np.empty((0, 3), np.float32), box[:0], np.empty(0, int)).shape == (0, 4)


def test_non_finite_features_are_refused() -> None:
    box = np.float32([[0, 0, 1, 1]])
    with pytest.raises(InputError, match="box regression, row 0"):
        BoxRidge([1], 2).add(np.float32([[0, np.nan]]), box, box, np.array([0]))


def test_memory_estimate() -> None:
    """VOC's pool5, 9217² doubles: 0.68 GB a class, so twenty large classes need 14 GB; small ones keep their rows."""
    assert ridge_bytes([20_000] * 20, 9216) == pytest.approx(21 * 8 * 9217**2, rel=0.06)
    assert ridge_bytes([100, 0], 9216) == 4 * 9217 * 100 + 8 * 100 * (9217 + 200)


def test_classes_are_grouped_by_memory() -> None:
    one_class = ridge_bytes([5000], 100)
    assert class_groups([5000] * 3, 100, one_class) == [range(0, 1), range(1, 2), range(2, 3)]
    assert class_groups([5000] * 3, 100, 2 * one_class) == [range(0, 2), range(2, 3)]
    assert class_groups([5000] * 3, 100, 0) == [range(0, 1), range(1, 2), range(2, 3)]
    assert class_groups([10] * 3, 100, one_class) == [range(0, 3)]
