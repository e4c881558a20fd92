import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_iou

from lib.boxes import boxes


def voc(*corners):
    return boxes.from_voc([corners])


def test_published_iou_vectors():
    # facts of boxoverlap.m, on 1-based inclusive corners with the +1 rule
    assert boxes.iou(voc(1, 1, 10, 10), voc(6, 1, 15, 10))[0, 0] == 1 / 3
    assert boxes.iou(voc(1, 1, 10, 10), voc(11, 1, 20, 10))[0, 0] == 0
    assert boxes.iou(voc(1, 1, 10, 10), voc(10, 10, 19, 19))[0, 0] == 1 / 199
    # IoU of exactly one half, which half-open arithmetic on raw corners would miss
    assert boxes.iou(voc(1, 1, 6, 6), voc(3, 1, 8, 6))[0, 0] == 0.5


def test_regression_vector_iou_with_plus_one():
    assert abs(boxes.iou(voc(100, 100, 199, 149), voc(110, 95, 219, 160))[0, 0] - 0.579897) < 1e-6


def test_conversion():
    assert voc(1, 1, 500, 375).tolist() == [[0, 0, 500, 375]]
    assert boxes.from_voc([[0, 0, 9, 9]], origin=0).tolist() == [[0, 0, 10, 10]]
    assert voc(181, 329, 181, 329).tolist() == [[180, 328, 181, 329]]
    assert boxes.to_voc(voc(48, 240, 195, 371)).tolist() == [[48, 240, 195, 371]]


def test_clip_then_flip():
    clipped = boxes.clip(np.array([[4, 2, 12, 8]], np.float32), 10, 10)
    assert clipped.tolist() == [[4, 2, 10, 8]]
    assert boxes.flip(clipped, 10).tolist() == [[0, 2, 6, 8]]
    assert boxes.flip(np.array([[0, 0, 5, 5]], np.float32), 10).tolist() == [[5, 0, 10, 5]]
    assert boxes.area(boxes.clip(np.array([[500, 500, 600, 600]], np.float32), 120, 100)).tolist() == [0]


def test_empty():
    none = np.zeros((0, 4), np.float32)
    assert boxes.iou(none, none).shape == (0, 0)
    assert boxes.class_overlaps(np.ones((2, 4), np.float32), none, np.zeros(0, int), 3).tolist() == [[0] * 3] * 2


def test_class_overlaps_takes_the_best_of_each_class():
    objects = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [5, 0, 10, 10]], np.float32)
    overlaps = boxes.class_overlaps(np.array([[0, 0, 10, 10]], np.float32), objects, np.array([1, 1, 0]), 3)
    assert overlaps.tolist() == [[0.5, 1.0, 0.0]]


corner = st.floats(0, 100, width=32)


@given(st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=5))
def test_iou_equals_torchvision(rows):
    corners = np.array([[min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1] for a, b, c, d in rows], np.float32)
    expected = box_iou(torch.from_numpy(corners).double(), torch.from_numpy(corners).double()).numpy()
    np.testing.assert_allclose(boxes.iou(corners, corners), expected, atol=1e-9)
    np.testing.assert_array_equal(boxes.flip(boxes.flip(corners, 128), 128)[:, 1::2], corners[:, 1::2])
