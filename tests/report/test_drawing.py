"""Drawings: exact pixels where it matters, and the layout of the panel."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.boxes.boxes import from_voc
from lib.evaluation.matching import IGNORED, RIGHT, WRONG
from lib.report.drawing import BLUE, GREEN, GREY, RED, draw, draw_best, encode_png, panel, write_png
from tests.evaluation.eval_tables import detections_table

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd"


def white(width=320, height=240):
    return np.full((height, width, 3), 255, np.uint8)


def pixels(image, colour):
    """(N, 2) x, y of the pixels of exactly this colour."""
    return np.argwhere((image == colour).all(axis=2))[:, ::-1]


def test_a_box_covers_its_own_first_and_last_pixel():
    image = white()
    drawn = draw(image, np.array([[20, 30, 50, 70]], np.float32), colours=RED, scale=0.5)
    assert pixels(drawn, RED).min(axis=0).tolist() == [20, 30]
    assert pixels(drawn, RED).max(axis=0).tolist() == [49, 69]  # half-open: 50, 70 lie outside
    assert len(pixels(drawn, RED)) == 2 * 30 + 2 * 38
    assert (image == 255).all()  # the original image stays as it was
    assert drawn.dtype == np.uint8


def test_nothing_to_draw_and_boxes_beyond_the_image():
    image = white()
    assert (draw(image, np.empty((0, 4), np.float32)) == image).all()
    drawn = draw(image, np.array([[-50, -50, 900, 900]], np.float32), colours=RED, scale=0.5)
    assert len(pixels(drawn, RED)) == 2 * 320 + 2 * 238


@pytest.mark.parametrize("size", [(320, 240), (1280, 960)])
@pytest.mark.parametrize("box", [(0, 0, 40, 40), (300, 5, 319, 100), (100, 100, 140, 140)])
def test_a_label_stays_inside_the_image_and_is_readable(size, box):
    image = white(*size)
    plain = draw(image, np.array([box], np.float32), colours=RED)
    drawn = draw(image, np.array([box], np.float32), ["platelets 0.97"], RED)
    where = pixels(drawn, RED)
    patch = len(where) - len(pixels(plain, RED))
    assert patch > 400  # the label's patch, not cut off at a border
    rows = np.argwhere((drawn != plain).any(axis=2))[:, 0]
    assert np.ptp(rows) + 1 >= 9  # letters of about nine pixels or more
    # All three places show a patch of about the same size.
    middle = draw(image, np.array([[100, 100, 140, 140]], np.float32), ["platelets 0.97"], RED)
    changed = (drawn != plain).any(axis=2).sum()
    expected = (
        (middle != draw(image, np.array([[100, 100, 140, 140]], np.float32), colours=RED)).any(axis=2).sum()
    )
    assert changed == pytest.approx(expected, rel=0.2)


def test_colours_of_each_box():
    boxes = np.array([[10, 100, 40, 140], [60, 100, 90, 140]], np.float32)
    drawn = draw(white(), boxes, colours=[RED, GREEN])
    assert pixels(drawn, RED)[:, 0].max() < 50 < pixels(drawn, GREEN)[:, 0].min()
    with pytest.raises(ValueError, match="do not match in number"):
        draw(white(), boxes, ["one"])
    with pytest.raises(ValueError, match="do not match in number"):
        draw(white(), boxes, colours=[RED])


def test_best_detections_lie_on_top_of_worse_ones_and_weak_ones_are_left_out():
    low, best, weak = (20, 100, 60, 140), (30, 100, 70, 140), (100, 100, 140, 140)
    table = detections_table(("i", "cat", low, 0.5), ("i", "dog", best, 0.9), ("i", "cat", weak, 0.1))
    drawn = draw_best(white(), table, 3, 0.2)
    boxes = np.array([low, best], np.float32)
    assert (drawn == draw(white(), boxes, ["cat 0.50", "dog 0.90"])).all()
    assert (draw_best(white(), table, 1, 0.2) == draw(white(), boxes[1:], ["dog 0.90"])).all()
    assert (draw_best(white(), table.iloc[:0], 3, 0.2) == 255).all()


def test_panel_has_three_pictures_and_the_colours_of_the_outcomes():
    image = white()
    boxes = np.array([[10, 100, 60, 140], [90, 100, 140, 140], [200, 100, 260, 140]], np.float32)
    outcomes = np.array([RIGHT, WRONG, IGNORED], np.int8)
    result = panel(
        image, (boxes[:1], ["cat"]), boxes[:2], (boxes, ["cat"] * 3, np.array([0.9, 0.8, 0.7]), outcomes)
    )
    assert result.shape[0] > 240
    third = (result.shape[1] - 320, result.shape[0] - 240)
    for colour, box in zip((GREEN, RED, GREY), boxes, strict=True):
        where = pixels(result, colour) - third
        assert where[:, 0].min() == box[0]
        assert where[:, 1].max() == box[3] - 1
    blue = pixels(result, BLUE)
    assert (blue[:, 0] < 320).sum() > 0
    assert ((blue[:, 0] > 320) & (blue[:, 0] < third[0])).sum() > 0
    assert (blue[:, 0] < third[0]).all()
    title = result[: third[1]]
    for number in range(3):
        part = title[:, number * (result.shape[1] // 3) :][:, :300]
        assert (part < 100).any()  # each picture has a title


def test_panel_of_nothing():
    none = np.empty((0, 4), np.float32)
    result = panel(white(), (none, []), none, (none, [], np.empty(0), np.empty(0, np.int8)))
    assert (result[-240:] == 255).all()


def test_png_gives_the_pixels_back():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    data = encode_png(image)
    assert data == encode_png(image.copy())
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert (cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) == image).all()


def test_a_written_picture_replaces_the_old_file_and_leaves_its_links_alone(tmp_path):
    path, link = tmp_path / "a.png", tmp_path / "link.png"
    write_png(path, white())
    before = path.read_bytes()
    link.hardlink_to(path)
    write_png(path, white(30, 20))
    assert link.read_bytes() == before
    assert cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR).shape == (20, 30, 3)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "link.png"]


@pytest.mark.skipif(not BCCD.exists(), reason="the blood cell images are not at hand")
def test_a_real_image():
    data = np.fromfile(BCCD / "JPEGImages" / "BloodImage_00001.jpg", np.uint8)
    image = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    drawn = draw(image, from_voc([[68, 315, 286, 480]]), ["WBC"])
    assert (drawn[330:470, 75:280] == image[330:470, 75:280]).all()
    assert (drawn[400, 67] == GREEN).all()
