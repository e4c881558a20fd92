"""The SVM against its objective and an independent optimum, and few or odd samples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from lib.boxes.boxes import class_overlaps, iou
from lib.linear.mining import Miner
from lib.linear.svm import SvmSettings, by_class, fit, fit_bytes, mining_bytes
from lib.stage.errors import InputError

Rows = NDArray[np.float32]


def objective(w: NDArray, b: float, positives: Rows, negatives: Rows, s: SvmSettings) -> float:
    """|w|²/2 + (b/bias)²/2 + C [weight Σ max(0, 1-z) + Σ max(0, 1+z)], a sum and not a mean."""
    w = np.asarray(w, np.float64)
    loss = s.positive_weight * np.maximum(0, 1 - (positives @ w + b)).sum()
    loss += np.maximum(0, 1 + (negatives @ w + b)).sum()
    return float(w @ w / 2 + (b / s.bias) ** 2 / 2 + s.C * loss)


def independent_optimum(positives: Rows, negatives: Rows, s: SvmSettings) -> float:
    """The dual's maximum, found by a general bounded solver; by strong duality the smallest objective there is."""
    signs = np.concatenate([np.ones(len(positives)), -np.ones(len(negatives))])
    rows = np.vstack([positives, negatives]).astype(np.float64)
    rows = np.hstack([rows, np.full((len(rows), 1), s.bias)]) * signs[:, None]
    limits = np.where(signs > 0, s.C * s.positive_weight, s.C)
    gram = rows @ rows.T

    def negated(alpha: NDArray) -> tuple[float, NDArray]:
        return 0.5 * alpha @ gram @ alpha - alpha.sum(), gram @ alpha - 1

    bounds = [(0, limit) for limit in limits]
    tight = {"maxiter": 20_000, "maxfun": 200_000, "ftol": 1e-15, "gtol": 1e-12}
    return -minimize(negated, limits / 2, jac=True, bounds=bounds, method="L-BFGS-B", options=tight).fun


def two_clouds(seed: int = 0, features: int = 6) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(seed)
    positives = rng.normal(2, 3, (12, features)).astype(np.float32)
    return positives, rng.normal(-1, 3, (90, features)).astype(np.float32)


@pytest.mark.parametrize(("bias", "b"), [(10.0, 0.1), (1.0, 0.001)])
def test_two_samples_by_hand(bias: float, b: float) -> None:
    """x = 1 and x = -1, C 0.001: both losses stay active, so w = 2C + C and b = bias² (2C - C)."""
    w, intercept, sweeps = fit(np.float32([[1]]), np.float32([[-1]]), SvmSettings(bias=bias, tol=1e-6))
    assert w.dtype == np.float32
    assert w[0] == pytest.approx(0.003, rel=1e-5)
    assert intercept == pytest.approx(b, rel=1e-5)
    assert 0 < sweeps < 1000


@pytest.mark.parametrize("c", [1e-3, 0.05])
@pytest.mark.parametrize("weight", [1.0, 2.0, 5.0])
def test_reaches_the_independent_optimum(c: float, weight: float) -> None:
    positives, negatives = two_clouds()
    settings = SvmSettings(C=c, positive_weight=weight, tol=1e-7, max_iter=100_000)
    best = independent_optimum(positives, negatives, settings)
    w, b, _ = fit(positives, negatives, settings)
    assert objective(w, b, positives, negatives, settings) == pytest.approx(best, rel=1e-5)


def test_default_tolerance_is_near_the_optimum() -> None:
    positives, negatives = two_clouds()
    settings = SvmSettings()
    w, b, _ = fit(positives, negatives, settings)
    best = independent_optimum(positives, negatives, settings)
    assert best * (1 - 1e-6) <= objective(w, b, positives, negatives, settings) <= best * 1.02
    unweighted = SvmSettings(positive_weight=1)
    w, b, _ = fit(positives, negatives, unweighted)
    assert objective(w, b, positives, negatives, settings) > best * 1.03, "the positive weight is not seen here"


def test_large_bias_frees_the_intercept() -> None:
    """5 positives among 1,995 negatives with small features: with a bias of 1 the penalty holds the intercept back."""
    rng = np.random.default_rng(0)
    negatives = rng.normal(0, 1, (1995, 20)).astype(np.float32)
    positives = (rng.normal(0, 1, (5, 20)) + 0.8).astype(np.float32)

    def solve(bias: float) -> tuple[float, float]:
        w, b, _ = fit(positives, negatives, SvmSettings(bias=bias))
        return float((positives @ w + b).max()), float((negatives @ w + b > -1.0001).mean())

    (best_1, hard_1), (best_10, hard_10) = solve(1), solve(10)
    _, hard_100 = solve(100)
    assert hard_1 > hard_10 > hard_100
    assert best_10 > best_1


def test_same_samples_same_bytes() -> None:
    positives, negatives = two_clouds(features=40)
    np.random.seed(0)  # noqa: NPY002 - the global state must not matter
    first = fit(positives, negatives, SvmSettings())
    np.random.seed(1)  # noqa: NPY002
    second = fit(positives, negatives, SvmSettings())
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1] == second[1]


@pytest.mark.parametrize("positives", [1, 2, 5])
def test_identical_rows_give_no_direction(positives: int) -> None:
    """Every box looks the same: nothing is learnt, nothing fails, and the intercept takes the commoner side."""
    rows = np.ones((60, 4), np.float32)
    w, b, _ = fit(rows[:positives], rows[positives:], SvmSettings())
    assert np.isfinite(w).all()
    assert rows[0] @ w + b < 0
    centred = np.zeros((60, 4), np.float32)
    np.testing.assert_array_equal(fit(centred[:positives], centred[positives:], SvmSettings())[0], np.zeros(4))


def test_overlaps_by_class() -> None:
    """Class 0 has two objects, class 2 one, class 1 none; a row takes the best of each class."""
    objects = np.float32([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 5]])
    labels = np.array([0, 0, 2])
    boxes = np.vstack([objects, np.float32([[21, 0, 31, 10], [90, 90, 99, 99]])])
    overlaps = class_overlaps(boxes, objects, labels, classes=3)
    assert overlaps.dtype == np.float32
    expected = [[1, 0, 0.5], [1, 0, 0], [0.5, 0, 1], [90 / 110, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(overlaps, expected, rtol=1e-6)
    np.testing.assert_allclose(overlaps[:, 2], iou(boxes, objects[2:])[:, 0], rtol=1e-6)
    none = class_overlaps(boxes, np.empty((0, 4), np.float32), np.empty(0, np.int64), 3)
    np.testing.assert_array_equal(none, np.zeros((5, 3)))
    assert class_overlaps(boxes[:0], objects, labels, 3).shape == (0, 3)


# The peak of getrusage would start at that of the process that runs the tests.
MEASURE = r"""
import re
from pathlib import Path
import numpy as np
from lib.linear.svm import SvmSettings, fit
rng = np.random.default_rng(0)
rows = rng.standard_normal(({samples}, {features}), dtype=np.float32)
{sparse}
fit(rows[:20], rows[20:60], SvmSettings())
peak = lambda: 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
before = peak()
fit(rows[:20], rows[20:], SvmSettings(max_iter=2))
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("sparse", "low", "high"), [("", 0.9, 1.02), ("rows[rows < 0] = 0", 0.5, 0.8)])
def test_memory_estimate(sparse: str, low: float, high: float) -> None:
    """6 times the float32 features when none is zero, 4 times when half are; the estimate is for the former."""
    code = MEASURE.format(samples=20_000, features=500, sparse=sparse)
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert low < int(done.stdout) / fit_bytes(20_000, 500) < high


def test_memory_of_mining_by_hand() -> None:
    """VOC 2007 with fc7: 15,662 objects, 5,447 of them persons, 50,000 negatives, 4,096 features: 6.84 GiB.

    4 bytes for 15,662 + 50,000 + 50,000 rows, 24 for 55,447 rows and 64 for each of these.
    """
    need = mining_bytes(15_662, 5_447, 50_000, 50_000, 4096)
    assert need == 4 * 4096 * 115_662 + 24 * 4096 * 55_447 + 64 * 55_447
    assert need / 2**30 == pytest.approx(6.845, abs=1e-3)


def test_a_training_that_memory_cannot_hold_is_refused_before_it_starts() -> None:
    """3 positives, 40 negatives of 6 features: 4 * 6 * 83 + 24 * 6 * 43 + 64 * 43 bytes, and not one less."""
    positives, negatives = two_clouds()
    overlaps, need = np.zeros((40, 1), np.float32), 4 * 6 * 83 + 24 * 6 * 43 + 64 * 43
    Miner(["cat"], {"cat": positives[:3]}, SvmSettings(), memory=need).add_image(0, negatives[:40], overlaps)
    miner = Miner(["cat"], {"cat": positives[:3]}, SvmSettings(), memory=need - 1)
    with pytest.raises(InputError, match="the SVM of cat, 40 negatives"):
        miner.add_image(0, negatives[:40], overlaps)
    assert not miner.trained.any()
    most = SvmSettings(max_negatives=20)
    miner = Miner(["cat"], {"cat": positives[:3]}, most, memory=need - 1)
    miner.add_image(0, negatives[:40], overlaps)
    assert miner.trained.all(), "the remedy of the message helps"


def test_positives_by_class() -> None:
    parts = [(np.array([1, 0]), np.float32([[1, 2], [3, 4]])), (np.zeros(0, np.int64), np.zeros((0, 2), np.float32)),
             (np.array([1]), np.float32([[5, 6]]))]
    positives = by_class(["a", "b", "c"], parts)
    np.testing.assert_array_equal(positives["a"], [[3, 4]])
    np.testing.assert_array_equal(positives["b"], [[1, 2], [5, 6]])
    assert positives["c"].shape == (0, 2)
    with pytest.raises(InputError, match="no object of any class"):
        by_class(["a"], parts[1:2])
