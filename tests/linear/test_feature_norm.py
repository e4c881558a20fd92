"""The feature factor against hand-worked norms and a plain loop."""

import numpy as np
import pytest

from lib.boxes.samples import NormSample
from lib.linear.feature_norm import FeatureNorm, measure, refuse_non_finite
from lib.stage.errors import InputError


def test_worked_example() -> None:
    """Norms 5 and 13 in one image, 6 in the next: the mean over boxes is 8, so the factor is 20 / 8."""
    norm = FeatureNorm()
    norm.add(0, np.float32([[3, 4], [5, 12]]))
    norm.add(1, np.float32([[0, 6]]))
    assert norm.scale() == pytest.approx(2.5)
    assert norm.scale(target=8) == pytest.approx(1)


def test_scaled_features_have_the_target_norm() -> None:
    images = [np.random.default_rng(i).gamma(2, 3, (50, 8)).astype(np.float32) for i in range(5)]
    norm = FeatureNorm()
    for number, features in enumerate(images):
        norm.add(number, features)
    scaled = np.concatenate(images) * norm.scale()
    assert np.linalg.norm(scaled, axis=1).mean() == pytest.approx(20, rel=1e-5)


def test_half_precision_does_not_overflow() -> None:
    norm = FeatureNorm()
    norm.add(0, np.full((1, 4), 300, np.float16))
    assert norm.scale() == pytest.approx(20 / 600)


def test_features_without_norm_are_refused() -> None:
    norm = FeatureNorm()
    norm.add(0, np.empty((0, 3), np.float32))
    norm.add(1, np.zeros((2, 3), np.float32))
    with pytest.raises(InputError, match="2 sampled rows sum to 0"):
        norm.scale()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_features_are_refused(value: float) -> None:
    features = np.zeros((4, 3), np.float32)
    features[2, 1] = value
    with pytest.raises(InputError, match=r"image 7, row 2.*1 of 4 rows"):
        refuse_non_finite(features, "image 7")
    with pytest.raises(InputError, match="image 9"):
        FeatureNorm().add(9, features)
    refuse_non_finite(features[:2], "image 7")


def measured(images: list[np.ndarray], sample: NormSample, seed: int) -> float:
    return measure(lambda image, rows: images[image][rows], [len(rows) for rows in images], sample, seed)


def test_measure_by_hand() -> None:
    """Norms 5 and 13, none, and 6: the mean is 8, so 20 needs 2.5."""
    images = [np.float32([[3, 4], [5, 12]]), np.zeros((0, 2), np.float32), np.float32([[0, 6]])]
    sample = NormSample(target=20, images=200, boxes=200)
    assert measured(images, sample, 3) == pytest.approx(2.5)
    assert measured(images[2:], sample, 3) == pytest.approx(20 / 6)


def test_no_more_boxes_than_asked_for() -> None:
    """A hundred rows of norm 1 and an image of three rows of norm 5: 2 + 2 count, whichever are drawn."""
    images = [np.tile(np.float32([1, 0]), (100, 1)), np.tile(np.float32([3, 4]), (3, 1))]
    assert measured(images, NormSample(target=1, images=9, boxes=2), 3) == pytest.approx(1 / 3)


def test_measure_is_the_loop_over_the_sample() -> None:
    """3 of 9 images and 2 of 4 boxes in each, drawn as NumPy's generator draws; another seed gives others."""
    random = np.random.default_rng(0)
    images, sample = [random.gamma(2, 3, (4, 2)) for _ in range(9)], NormSample(target=7, images=3, boxes=2)
    norms = []
    for image in sorted(np.random.default_rng(5).permutation(9)[:3]):
        rows = np.random.default_rng((5, image)).permutation(4)[:2]
        norms += [float(np.hypot(*images[image][row])) for row in rows]
    assert len(norms) == 6
    factor = measured(images, sample, 5)
    assert factor == pytest.approx(7 / np.mean(norms), rel=1e-6)
    assert measured(images, sample, 6) != factor
