"""The feature factor against hand-worked norms and a plain loop."""

from pathlib import Path

import numpy as np
import pytest

from lib.linear.feature_norm import FeatureNorm, NormSample, measure, refuse_non_finite, sampled_images
from lib.stage.errors import InputError
from lib.storage import shards


def test_worked_example() -> None:
    """Norms 5 and 13 in one image, 6 in the next: the mean over boxes is 8, so the factor is 20 / 8."""
    norm = FeatureNorm()
    norm.add(0, np.float32([[3, 4], [5, 12]]))
    norm.add(1, np.float32([[0, 6]]))
    assert norm.scale() == pytest.approx(2.5)
    assert norm.scale(target=8) == pytest.approx(1)


def test_scaled_features_have_the_target_norm() -> None:
    images = [np.random.default_rng(i).gamma(2, 3, (50, 8)).astype(np.float32) for i in range(5)]
    norm = FeatureNorm(boxes=1000)
    for number, features in enumerate(images):
        norm.add(number, features)
    scaled = np.concatenate(images) * norm.scale()
    assert np.linalg.norm(scaled, axis=1).mean() == pytest.approx(20, rel=1e-5)


def test_no_more_boxes_than_asked_for() -> None:
    """A hundred rows of norm 1 and an image of three rows of norm 5: 2 + 2 count, whichever are drawn."""
    norm = FeatureNorm(boxes=2)
    norm.add(0, np.tile(np.float32([1, 0]), (100, 1)))
    norm.add(1, np.tile(np.float32([3, 4]), (3, 1)))
    assert norm.scale(target=1) == pytest.approx(1 / 3)


def test_sample_is_random_and_repeatable() -> None:
    features = np.arange(1, 1001, dtype=np.float32)[:, None]

    def scale(seed: int, order: list[int]) -> float:
        norm = FeatureNorm(boxes=200, seed=seed)
        for image in order:
            norm.add(image, features)
        return norm.scale()

    assert scale(3, [0, 1]) == scale(3, [1, 0])
    assert scale(3, [0, 1]) != scale(4, [0, 1])
    assert scale(3, [0]) != scale(3, [1])
    mean = 20 / scale(3, list(range(20)))
    assert mean == pytest.approx(500.5, rel=0.03), "the first 200 have a mean of 100"


def test_sampled_images() -> None:
    sample = sampled_images(5011)
    assert len(set(sample.tolist())) == 200
    assert (np.diff(sample) > 0).all()
    assert 0 <= sample.min() < 1000
    assert 4000 < sample.max() < 5011
    np.testing.assert_array_equal(sample, sampled_images(5011))
    assert (sample != sampled_images(5011, seed=4)).any()
    np.testing.assert_array_equal(sampled_images(7), np.arange(7))
    assert sampled_images(0).shape == (0,)


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
        FeatureNorm(boxes=1).add(9, features)
    refuse_non_finite(features[:2], "image 7")


def store(folder: Path, images: dict[str, list[list[float]]]) -> shards.Reader:
    """Two layers of two features, the second ten times the first, in shards of at most four rows."""
    index = shards.plan(list(images), [len(rows) for rows in images.values()], row_bytes=8, shard_bytes=32)
    writer = shards.Writer(folder, index, {"fc7": 2, "pool5": 2})
    for rows in images.values():
        features = np.array(rows, np.float32).reshape(-1, 2)
        writer.append({"fc7": features, "pool5": 10 * features})
    writer.close()
    return shards.Reader(folder)


def test_measure_by_hand(tmp_path: Path) -> None:
    """Norms 5 and 13, none, and 6: the mean of the layer is 8, so 20 needs 2.5; the other layer is ten times that."""
    images = {"a": [[3, 4], [5, 12]], "b": [], "c": [[0, 6]]}
    features, sample = store(tmp_path, images), NormSample(target=20, images=200, boxes=200)
    assert measure(features, "fc7", list(images), sample, seed=3) == pytest.approx(2.5)
    assert measure(features, "pool5", list(images), sample, seed=3) == pytest.approx(0.25)
    # Images outside the list, test images for example, do not count.
    assert measure(features, "fc7", ["c"], sample, seed=3) == pytest.approx(20 / 6)


def test_measure_is_the_loop_over_the_sample(tmp_path: Path) -> None:
    """3 of 9 images and 2 of 4 boxes in each, the same ones that the parts sample; another seed gives others."""
    rng = np.random.default_rng(0)
    images = {f"{i}": rng.gamma(2, 3, (4, 2)).astype(np.float16).tolist() for i in range(9)}
    features, sample = store(tmp_path, images), NormSample(target=7, images=3, boxes=2)
    norms = []
    for image in sampled_images(9, 3, seed=5):
        rows = np.random.default_rng((5, image)).permutation(4)[:2]
        norms += [float(np.hypot(*images[str(image)][row])) for row in rows]
    assert len(norms) == 6
    factor = measure(features, "fc7", list(images), sample, seed=5)
    assert factor == pytest.approx(7 / np.mean(norms), rel=1e-6)
    assert measure(features, "fc7", list(images), sample, seed=6) != factor
