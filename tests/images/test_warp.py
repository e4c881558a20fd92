import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib.backbones.backbones import IMAGENET
from lib.boxes.boxes import from_voc
from lib.images.warp import Crops, place, sample, uncut, warp

# Published geometry of rcnn_im_crop.m: 1-based inclusive box, image W x H -> source rectangle (1-based inclusive),
# pasted size, left and top pad; crop 227, context 16.
VECTORS = [
    ((48, 240, 195, 371), (500, 375), (36, 229, 208, 375), (227, 215), (0, 0)),
    ((8, 12, 352, 498), (353, 500), (1, 1, 353, 500), (199, 200), (12, 12)),
    ((1, 1, 100, 100), (500, 375), (1, 1, 109, 109), (211, 211), (16, 16)),
    ((300, 50, 500, 375), (500, 375), (284, 23, 500, 375), (211, 210), (0, 0)),
    ((201, 151, 300, 250), (500, 375), (193, 143, 309, 259), (227, 227), (0, 0)),
]


@pytest.mark.parametrize(("box", "image", "source", "size", "pad"), VECTORS)
def test_published_vectors(box, image, source, size, pad):
    placement = place(from_voc([box]), *image, side=227, context=16)
    assert placement.source.tolist() == [[source[0] - 1, source[1] - 1, source[2], source[3]]]
    assert placement.covered.tolist() == [[*pad, pad[0] + size[0], pad[1] + size[1]]]


def test_published_square_vector():
    placement = place(from_voc([(48, 240, 195, 371)]), 500, 375, 227, 16, "square")
    assert placement.source.tolist() == [[35, 219, 208, 375]]
    assert placement.covered.tolist() == [[0, 0, 227, 205]]


@pytest.mark.parametrize("side", [64, 96, 224])
def test_context_scales_with_the_side(side):
    same = place(from_voc([VECTORS[0][0]]), 500, 375, side, 16).source
    assert same.tolist() == place(from_voc([VECTORS[0][0]]), 500, 375, 227, 16).source.tolist()


def test_without_context_it_is_a_plain_crop():
    placement = place(np.array([[10, 20, 30, 50]], np.float32), 100, 100, 64, 0)
    assert placement.source.tolist() == [[10, 20, 30, 50]]
    assert placement.covered.tolist() == [[0, 0, 64, 64]]


def test_tiny_and_border_boxes_stay_inside():
    corners = np.array([[0, 0, 1, 1], [99, 79, 100, 80], [0, 0, 100, 80], [50, 0, 51, 80]], np.float32)
    for shape in ("warp", "square"):
        placement = place(corners, 100, 80, 64, 16, shape)
        assert (placement.source[:, :2] >= 0).all()
        assert (placement.source[:, 2:] <= (100, 80)).all()
        assert (placement.source[:, 2:] > placement.source[:, :2]).all()
        assert (placement.covered[:, 2:] > placement.covered[:, :2]).all()
        assert (placement.covered >= 0).all()
        assert (placement.covered <= 64).all()


@settings(max_examples=200)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), st.lists(st.floats(0, 1), min_size=4, max_size=4),
    st.sampled_from([7, 32]), st.sampled_from([0, 16]), st.sampled_from(["warp", "square"]),
)
def test_every_box_with_an_area_in_its_image_has_a_crop(image_size, shares, side, context, shape):
    """Case 110: a part of a pixel at the right border, too, where OpenCV would be given nothing."""
    width, height = image_size
    corners = np.sort(np.float32(shares).reshape(2, 2), axis=0) * np.float32([width, height])
    box = corners.reshape(1, 4).astype(np.float32)
    assume((corners[1] > corners[0]).all())
    placement = place(box, width, height, side, context, shape)
    assert (placement.source[:, :2] >= 0).all()
    assert (placement.source[:, 2:] <= image_size).all()
    assert (placement.source[:, 2:] > placement.source[:, :2]).all()
    assert warp(np.full((height, width, 3), 7, np.uint8), box, side, context, shape).pixels.shape == (1, side, side, 3)


@pytest.mark.parametrize("context", [0, 16])
def test_less_than_half_a_pixel_at_the_border_gives_the_last_pixel(context):
    placement = place(np.float32([[99.8, 79.8, 100, 80]]), 100, 80, 64, context)
    assert placement.source.tolist() == [[99, 79, 100, 80]]


def test_pixels_are_opencv_bilinear_and_gaps_are_what_is_not_covered():
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    crops = warp(image, from_voc([VECTORS[4][0], VECTORS[2][0]]), 227, 16)
    expected = cv2.resize(image[142:259, 192:309], (227, 227), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(crops.pixels[0], expected)
    painted = np.zeros((2, 227, 227), bool)
    for crop, y1, y2, x1, x2 in crops.gaps():
        assert not painted[crop, y1:y2, x1:x2].any()
        painted[crop, y1:y2, x1:x2] = True
    assert not painted[0].any()
    assert (~painted[1]).sum() == 211 * 211
    assert not painted[1, 16:, 16:].any()


@pytest.mark.parametrize("shape", ["warp", "square"])
@pytest.mark.parametrize(("side", "context"), [(32, 0), (32, 16), (227, 16), (224, 3.5)])
def test_a_device_cuts_the_same_pixels_as_opencv(side, context, shape):
    """Within 1 of 255, since OpenCV's weights have 11 bits. The image is noise: a hundredth of a pixel would show."""
    random = np.random.default_rng(side)
    for width, height in ((90, 70), (500, 375), (1, 40), (33, 1), (1, 1)):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        x, y = (np.sort(random.integers(0, length, (12, 2)), axis=1) for length in (width, height))
        edges = [(a, b, a + 1, b + 1) for a in (0, width - 1) for b in (0, height - 1)]
        inside = np.stack([x[:, 0], y[:, 0], x[:, 1] + 1, y[:, 1] + 1], axis=1)
        boxes = np.vstack([inside, edges, [(0, 0, width, height)]]).astype(np.float32)
        expected, whole = warp(image, boxes, side, context, shape), uncut(image, boxes, side, context, shape)
        assert whole.image is image
        as_input = torch.from_numpy(image).permute(2, 0, 1).float()
        pixels, gaps = sample(as_input, torch.from_numpy(whole.points))
        empty = np.zeros((len(boxes), side, side), bool)
        for crop, y1, y2, x1, x2 in expected.gaps():
            empty[crop, y1:y2, x1:x2] = True
        np.testing.assert_array_equal(gaps[:, 0], empty)
        assert pixels.dtype == torch.uint8
        assert pixels.is_contiguous(memory_format=torch.channels_last)
        difference = (pixels.permute(0, 2, 3, 1).numpy().astype(int) - expected.pixels)[~empty]
        assert np.abs(difference).max() <= 1


def test_sampling_by_hand():
    """A row of 2 pixels, 10 and 31, over 4 columns: at quarters of the way, 15.25 and 25.75, and its ends repeated."""
    image = np.repeat(np.uint8([[[10], [31]]]), 3, axis=2)
    whole = uncut(image, np.float32([[0, 0, 2, 1]]), 4, 0)
    np.testing.assert_allclose(whole.points[0], [[-0.5, -0.25, 0.25, 0.5], [0, 0, 0, 0]])
    pixels, gaps = sample(torch.from_numpy(image).permute(2, 0, 1).float(), torch.from_numpy(whole.points))
    assert pixels[0, 0].tolist() == [[10, 15, 26, 31]] * 4
    assert not gaps.any()


def test_mirrored_twice_is_the_same_and_padding_changes_sides():
    image = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    crops = warp(image, from_voc([VECTORS[2][0], VECTORS[0][0]]), 64, 16)
    which = np.array([True, False])
    flipped = crops.mirrored(which)
    assert flipped.covered[0, 2] == 64 - crops.covered[0, 0]
    assert flipped.covered[0, 0] == 64 - crops.covered[0, 2]
    np.testing.assert_array_equal(flipped.covered[1], crops.covered[1])
    twice = flipped.mirrored(which)
    np.testing.assert_array_equal(twice.pixels, crops.pixels)
    np.testing.assert_array_equal(twice.covered, crops.covered)
    joined = Crops.concatenate([crops, flipped])
    assert joined.pixels.shape == (4, 64, 64, 3)


def test_recipe_of_a_red_image():
    red = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    red[:, 0] = 255
    assert IMAGENET(red)[0, 0, 0, 0].item() == pytest.approx(2.2489, abs=1e-4)
    grey = torch.full((1, 3, 1, 1), 116, dtype=torch.uint8)
    assert IMAGENET(grey)[0, 1].item() == pytest.approx(-0.28 / 57.12, abs=1e-5)
