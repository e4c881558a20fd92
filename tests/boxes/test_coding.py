"""Box deltas against hand-worked numbers and torchvision's coder."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.models.detection._utils import BoxCoder

from lib.boxes.boxes import from_voc, iou
from lib.boxes.coding import decode, decode_tensors, encode


def some_boxes(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-20, 200, (count, 2))
    return np.hstack([corner, corner + rng.uniform(1, 150, (count, 2))]).astype(np.float32)


def test_worked_example() -> None:
    """P (100, 100, 199, 149), G (110, 95, 219, 160): w 99, 109; h 49, 65; the centre moves by 15 and 3."""
    proposal, target = np.float32([[100, 100, 199, 149]]), np.float32([[110, 95, 219, 160]])
    deltas = encode(proposal, target)
    assert deltas.dtype == np.float32
    np.testing.assert_allclose(deltas[0], [15 / 99, 3 / 49, math.log(109 / 99), math.log(65 / 49)], rtol=1e-6)
    np.testing.assert_allclose(deltas[0], [0.151515, 0.061224, 0.096228, 0.282567], atol=5e-7)


def test_worked_example_overlap() -> None:
    """The same corners read as VOC's inclusive ones overlap by 4500 / 7760."""
    proposal, target = from_voc([[100, 100, 199, 149]]), from_voc([[110, 95, 219, 160]])
    assert iou(proposal, target)[0, 0] == pytest.approx(4500 / 7760)
    assert iou(proposal, target)[0, 0] == pytest.approx(0.579897, abs=5e-7)


def test_same_box_is_zero_and_zero_is_same_box() -> None:
    boxes = np.float32([[3, 4, 10, 20], [0, 0, 1, 1]])
    np.testing.assert_array_equal(encode(boxes, boxes), np.zeros((2, 4)))
    np.testing.assert_array_equal(decode(boxes, np.zeros((2, 4), np.float32)), boxes)


def test_there_and_back() -> None:
    proposals, objects = some_boxes(500, 0), some_boxes(500, 1)
    moved = decode(proposals, encode(proposals, objects), largest_log=10)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, objects, atol=1e-3)


def test_agrees_with_torchvision() -> None:
    coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
    proposals, objects = some_boxes(200, 2), some_boxes(200, 3)
    expected = coder.encode_single(torch.from_numpy(objects), torch.from_numpy(proposals))
    np.testing.assert_allclose(encode(proposals, objects), expected.numpy(), atol=2e-5, rtol=1e-5)
    deltas = np.random.default_rng(4).normal(0, 2, (200, 4)).astype(np.float32)
    expected = coder.decode_single(torch.from_numpy(deltas), torch.from_numpy(proposals))
    np.testing.assert_allclose(decode(proposals, deltas), expected.numpy(), atol=0.02, rtol=1e-5)


def test_sides_grow_by_62_5_at_most() -> None:
    """exp(89) is infinite in float32; the cut is log(1000 / 16) = 4.135166556742356."""
    box = np.float32([[0, 0, 2, 4]])
    moved = decode(box, np.float32([[0, 0, 89, 1e30]]))
    np.testing.assert_allclose(moved, [[1 - 62.5, 2 - 125, 1 + 62.5, 2 + 125]], rtol=1e-6)
    np.testing.assert_array_equal(moved, decode(box, np.float32([[0, 0, np.inf, 4.2]])))
    doubled = decode(box, np.float32([[0, 0, 3, 0]]), largest_log=math.log(2))
    np.testing.assert_allclose(doubled, [[-1, 0, 3, 4]], atol=1e-6)
    shrunk = decode(box, np.float32([[0, 0, -89, -1e30]]))
    np.testing.assert_allclose(shrunk, [[1, 2, 1, 2]], atol=1e-6)


def test_broken_deltas_stay_in_their_row() -> None:
    box = np.float32([[0, 0, 2, 4]])
    moved = decode(np.repeat(box, 2, axis=0), np.float32([[np.nan, 0, 0, 0], [0, 0, 0, 0]]))
    assert np.isnan(moved[0, 0])
    np.testing.assert_array_equal(moved[1:], box)


@pytest.mark.parametrize("flat", [[5, 5, 5, 9], [5, 5, 9, 5], [9, 5, 5, 9], [np.nan, 0, 1, 1]])
def test_a_box_without_area_cannot_be_encoded(flat: list[float]) -> None:
    good = np.float32([[0, 0, 1, 1], [0, 0, 1, 1]])
    bad = np.float32([[0, 0, 1, 1], flat])
    with pytest.raises(ValueError, match="row 1"):
        encode(bad, good)
    with pytest.raises(ValueError, match="row 1"):
        encode(good, bad)


def test_unequal_numbers() -> None:
    with pytest.raises(ValueError, match="3 proposals for 1 objects"):
        encode(some_boxes(3, 0), some_boxes(1, 0))


def test_nothing() -> None:
    none = np.empty((0, 4), np.float32)
    assert encode(none, none).shape == (0, 4)
    assert decode(none, none).shape == (0, 4)


def test_tensors_decode_alike() -> None:
    proposals = some_boxes(300, 5)
    deltas = np.random.default_rng(6).normal(0, 1, (300, 3, 4)).astype(np.float32)
    deltas[0, 0, 2:] = 89, 1e30
    decoded = decode_tensors(torch.from_numpy(proposals)[:, None], torch.from_numpy(deltas))
    assert decoded.shape == (300, 3, 4)
    for column in range(3):
        expected = decode(proposals, deltas[:, column])
        np.testing.assert_allclose(decoded[:, column].numpy(), expected, atol=2e-3, rtol=1e-5)
    assert decode_tensors(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


def test_gradients_pass_through_decoded_tensors() -> None:
    """d x1 / d dx = side, and d x1 / d dw = -side e^dw / 2: 10 and -5 e^0.5."""
    deltas = torch.tensor([[0.1, 0.0, 0.5, 0.0]], requires_grad=True)
    decode_tensors(torch.tensor([[10.0, 0.0, 20.0, 4.0]]), deltas)[0, 0].backward()
    np.testing.assert_allclose(deltas.grad.numpy(), [[10, 0, -5 * math.exp(0.5), 0]], rtol=1e-6)
