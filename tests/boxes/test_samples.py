"""Which regions are read, against hand-worked overlaps and a plain loop."""

import numpy as np
import pytest

from lib.boxes.boxes import iou
from lib.boxes.samples import AllRegions, NormSample, RegressorSample, pair, readers, sampled_images, sampled_regions
from lib.stage.errors import InputError


def test_pairs_are_strictly_above_the_threshold() -> None:
    """Boxes of 10 x 10 against the first 10 x 6 of it: an IoU of exactly 0.6 is out, 0.7 is in."""
    objects = np.float32([[0, 0, 10, 10]])
    boxes = np.float32([[0, 0, 10, 6], [0, 0, 10, 7], [0, 0, 10, 10], [50, 50, 60, 60]])
    rows, matched = pair(boxes, objects, more_than=0.6)
    np.testing.assert_array_equal(rows, [1, 2])
    np.testing.assert_array_equal(matched, [0, 0])
    np.testing.assert_array_equal(pair(boxes, objects, more_than=0.5)[0], [0, 1, 2])


def test_pairs_take_the_best_object_and_the_first_of_equals() -> None:
    objects = np.float32([[0, 0, 10, 8], [0, 0, 10, 9], [0, 0, 10, 9], [2, 0, 12, 10]])
    rows, matched = pair(np.float32([[0, 0, 10, 10]]), objects, more_than=0.6)
    np.testing.assert_array_equal(rows, [0])
    np.testing.assert_array_equal(matched, [1])


def test_no_objects_or_no_boxes() -> None:
    some, none = np.float32([[0, 0, 1, 1]]), np.empty((0, 4), np.float32)
    for boxes, objects in ((some, none), (none, some), (none, none)):
        rows, matched = pair(boxes, objects, 0.6)
        assert rows.shape == matched.shape == (0,)


def test_sampled_images() -> None:
    sample = sampled_images(5011, 200, seed=3)
    assert len(set(sample.tolist())) == 200
    assert (np.diff(sample) > 0).all()
    assert 0 <= sample.min() < 1000
    assert 4000 < sample.max() < 5011
    np.testing.assert_array_equal(sample, sampled_images(5011, 200, seed=3))
    assert (sample != sampled_images(5011, 200, seed=4)).any()
    np.testing.assert_array_equal(sampled_images(7, 200, seed=3), np.arange(7))
    assert sampled_images(0, 200, seed=3).shape == (0,)


def test_sampled_regions_depend_on_the_seed_and_the_image_alone() -> None:
    sample = sampled_regions(2000, 7, 200, seed=3)
    assert len(set(sample.tolist())) == 200
    assert 900 < sample.mean() < 1100, "the first 200 have a mean of 100"
    np.testing.assert_array_equal(sample, sampled_regions(2000, 7, 200, seed=3))
    assert (sample != sampled_regions(2000, 8, 200, seed=3)).any()
    assert (sample != sampled_regions(2000, 7, 200, seed=4)).any()
    assert sorted(sampled_regions(3, 0, 200, seed=3)) == [0, 1, 2]


def test_regressors_read_what_they_learn_from_and_what_the_scale_is_measured_on() -> None:
    """All pairs above the threshold, and 3 regions of each of 2 of 4 images; the smaller threshold reads more."""
    random = np.random.default_rng(0)
    masks: dict[float, list[np.ndarray]] = {0.3: [], 0.6: []}
    for image in range(4):
        objects = random.uniform(0, 40, (2, 4)).astype(np.float32)
        objects[:, 2:] += 50
        boxes = np.concatenate([objects, np.repeat(objects, 20, axis=0) + random.normal(0, 9, (40, 4))])
        boxes = boxes.astype(np.float32)
        for more_than, made in masks.items():
            sample = RegressorSample(more_than, NormSample(target=1, images=2, boxes=3), 5, 4)
            made.append(sample.mask(image, boxes, objects))
            expected = {row for row, overlaps in enumerate(iou(boxes, objects)) if overlaps.max() > more_than}
            if image in np.random.default_rng(5).permutation(4)[:2]:
                expected |= set(np.random.default_rng((5, image)).permutation(42)[:3].tolist())
            assert set(np.flatnonzero(made[-1])) == expected
            assert made[-1][:2].all(), "the objects themselves"
    loose, strict = (np.concatenate(masks[more_than]) for more_than in (0.3, 0.6))
    assert loose.sum() > strict.sum() > 8
    assert (loose >= strict).all()
    assert AllRegions().mask(0, boxes, objects).all()


def test_a_layer_of_both_is_read_whole_and_an_unknown_one_is_named() -> None:
    sample = RegressorSample(0.6, NormSample(target=1, images=2, boxes=3), 5, 4)
    apart = readers("fc7", {"pool5": sample}, ["pool5", "fc7"], "rcnn")
    assert apart["pool5"] is sample
    assert isinstance(apart["fc7"], AllRegions)
    for regressors in ({"pool5": sample}, {}):
        both = readers("pool5", regressors, ["pool5", "fc7"], "rcnn")
        assert list(both) == ["pool5"]
        assert isinstance(both["pool5"], AllRegions)
    with pytest.raises(InputError, match=r"params.yaml: fast_svm, layer: is pool5.*fc7.*Change"):
        readers("pool5", {}, ["fc7"], "fast_svm")
