"""Boxes that are no pixels: fractions in both formats, corners in COCO, and real boxes that are neither."""

from pathlib import Path

import pytest

from lib.datasets.cautions import cautions
from lib.datasets.check import load
from lib.datasets.records import Item
from lib.datasets.settings import DataSettings
from lib.datasets.units import Units
from tests.datasets.loading import boxes_of, lenient, refused, strict

SHARED = Path(__file__).parents[2] / "../shared/data"

WRITE = {
    "sides": lambda x1, y1, x2, y2, width, height: (x1, y1, x2 - x1, y2 - y1),
    "corners": lambda x1, y1, x2, y2, width, height: (x1, y1, x2, y2),
    "fractions": lambda x1, y1, x2, y2, width, height: (
        x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height),
    "corners in fractions": lambda x1, y1, x2, y2, width, height: (x1 / width, y1 / height, x2 / width, y2 / height),
}  # fmt: skip


def seen(boxes, width=100, height=80, format="coco"):
    """Kinds of what is suspected of one image whose file holds `boxes` in COCO's layout."""
    units = Units()
    items = [
        Item(number, "cat", (x, y, x + w, y + h), (x, y, w, h), f"annotation {number}")
        for number, (x, y, w, h) in enumerate(boxes)
    ]
    assert units.see(items, width, height, format) == (not units.suspects)
    return [fault.kind for fault in units.faults()]


@pytest.mark.parametrize(
    ("boxes", "kinds"),
    [
        ([(0.1, 0.2, 0.3, 0.4)], ["boxes in fractions"]),
        ([(0, 0.5, 1, 0.5)], ["boxes in fractions"]),
        ([(-0.009, 0, 1.009, 1)], ["boxes in fractions"]),
        ([(-0.02, 0, 1, 1)], []),
        ([(0, 0, 1.02, 1)], []),
        # One pixel, and a box that somebody left empty.
        ([(0, 0, 1, 1)], []),
        ([(0, 0, 0, 0)], []),
        ([(10, 20, 30, 40), (0.1, 0.2, 0.3, 0.4)], ["boxes in fractions"]),
        ([(40, 40, 90, 70)], ["boxes as corners"]),
        ([(40, 40, 90, 70), (1, 1, 9, 9)], ["boxes as corners"]),
        # x2 left of x1 and y2 above y1: no corners, and a box over the border.
        ([(40, 40, 90, 70), (60, 1, 30, 9)], []),
        ([(40, 40, 90, 70), (1, 60, 9, 30)], []),
        # As corners beyond the image too.
        ([(40, 40, 102, 70)], []),
        ([(40, 40, 90, 82)], []),
        ([(40, 40, 101, 81)], ["boxes as corners"]),
        # Over the border as sides by a tenth: 110 and 88; one direction is enough.
        ([(20, 10, 90, 70)], []),
        ([(21, 10, 90, 70)], ["boxes as corners"]),
        ([(20, 19, 90, 70)], ["boxes as corners"]),
        ([], []),
    ],
)
def test_case_104_what_is_suspected(boxes, kinds):
    assert seen(boxes) == kinds


def test_case_104_in_an_image_of_a_few_pixels_fractions_can_be_meant():
    assert seen([(0.1, 0.2, 0.3, 0.4)], 4, 50) == []
    assert seen([(0.1, 0.2, 0.3, 0.4)], 5, 50) == ["boxes in fractions"]


def test_case_104_corners_are_what_voc_writes():
    assert seen([(40, 40, 90, 70)], format="voc") == []


def twelve(coco, write, wrong=range(12), last=16):
    """Twelve images of 16 boxes each; those in `wrong` are written by `write`, the others as sides."""
    images, rows = [], []
    for number in range(12):
        images.append({"id": number, "file_name": f"{number:02}.png", "width": 100, "height": 80})
        for count in range(last):
            corners = (2 + 4 * count, 1 + 3 * count, 34 + 4 * count, 31 + 3 * count)
            bbox = WRITE[write if number in wrong else "sides"](*corners, 100, 80)
            rows.append({"id": len(rows), "image_id": number, "category_id": 1, "bbox": bbox})
    coco.write("all.json", images, rows)


def test_case_104_all_boxes_in_fractions(coco):
    twelve(coco, "fractions")
    kinds, message = refused(coco.root)
    assert kinds == ["boxes in fractions"]
    assert message == (
        "all.json, annotation 0 (00.png): the box is [0.02, 0.0125, 0.32, 0.375]. 192 of 192 boxes (100.0%), in 12 of "
        "12 images with objects, look like fractions of the image's size; also all.json, annotation 16 (01.png), "
        "all.json, annotation 32 (02.png). Allowed: pixels. Multiply x by the image's width and y by its height, or "
        "set data.faults: lenient to leave these images out."
    )
    kinds, message = refused(coco.root, lenient)
    assert kinds == ["no objects", "boxes in fractions"]


@pytest.mark.parametrize("write", ["fractions", "corners in fractions"])
def test_case_104_one_image_of_twelve_in_fractions(coco, write):
    twelve(coco, write, wrong=[5])
    kinds, message = refused(coco.root)
    assert kinds == ["boxes in fractions"]
    assert "annotation 80 (05.png)" in message
    assert "16 of 192 boxes (8.3%), in 1 of 12 images with objects" in message
    dataset = lenient(coco.root)
    # Not kept as an image without objects: it has some.
    assert len(dataset.images) == 11
    assert len(dataset.objects) == 11 * 16
    assert dataset.repairs == {"boxes in fractions": 1}


@pytest.mark.parametrize("wrong", [range(12), [5]])
@pytest.mark.parametrize("mode", [strict, lenient])
def test_case_104_corners_stop_both_modes(coco, wrong, mode):
    twelve(coco, "corners", wrong=wrong)
    kinds, message = refused(coco.root, mode)
    assert kinds == ["boxes as corners"]
    count = 16 * len(wrong)
    assert f"{count} of 192 boxes ({count / 192:.1%}), in {len(wrong)} of 12 images with objects, look like" in message
    assert "Allowed: [x, y, width, height]. Write [x1, y1, x2 - x1, y2 - y1] in the whole file." in message


def test_case_104_fractions_in_voc(voc, obj):
    voc.add("1", obj(corners=(0.1, 0.25, 0.5, 1)), obj(corners=(0, 0, 0.5, 0.5)))
    voc.add("2", obj())
    kinds, message = refused(voc.root)
    assert kinds == ["boxes in fractions"]
    assert "Annotations/1.xml, object 0 (dog): the box is [0.1, 0.25, 0.5, 1]. 2 of 3 boxes (66.7%)" in message
    dataset = lenient(voc.root)
    assert dataset.images["image_id"].tolist() == ["JPEGImages/2.png"]
    assert boxes_of(dataset) == [[10, 20, 40, 50]]


def test_case_104_what_is_wrong_with_the_units_comes_before_what_follows_from_it(voc, obj):
    voc.add("1", obj(corners=(90, 1, 190, 50)))
    voc.add("2", obj(corners=(0.1, 0.25, 0.5, 1)))
    assert refused(voc.root)[0] == ["boxes in fractions", "box over the border"]


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="no ../shared/data/bccd")
@pytest.mark.parametrize(
    ("write", "suspects"), [("sides", 0), ("corners", 359), ("fractions", 364), ("corners in fractions", 364)]
)
def test_case_104_real_boxes(write, suspects):
    dataset = load(SHARED / "bccd", DataSettings())
    size_of = {row.image_id: (row.width, row.height) for row in dataset.images.itertuples()}
    units = Units()
    for image_id, rows in dataset.objects.groupby("image_id"):
        items = []
        for row in rows.itertuples():
            x, y, w, h = WRITE[write](row.x1, row.y1, row.x2, row.y2, *size_of[image_id])
            items.append(Item(row.object, "cell", (x, y, x + w, y + h), (x, y, w, h), image_id))
        units.see(items, *size_of[image_id], "coco")
    assert sum(map(len, units.suspects.values())) == suspects
    assert len(units.faults()) == (suspects > 0)


@pytest.mark.parametrize(
    ("boxes", "highest", "size", "warned"),
    [(20, 100, (200, 300), True), (19, 100, (200, 300), False), (20, 101, (200, 300), False),
     (20, 100, (199, 300), False), (20, 100, (300, 199), False)],
)  # fmt: skip
def test_case_104_boxes_that_may_be_per_cent_are_a_caution(coco, boxes, highest, size, warned):
    images = [{"id": 1, "file_name": "1.png", "width": size[0], "height": size[1]},
              {"id": 2, "file_name": "empty.png", "width": 50, "height": 50}]  # fmt: skip
    rows = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [number, 10, highest - number, 30]}
        for number in range(boxes)
    ]
    coco.write("all.json", images, rows)
    said = [caution for caution in cautions(strict(coco.root)) if "per cent" in caution]
    expected = "No box reaches beyond 100, in images of at least 200x300: are boxes written in per cent?"
    assert [caution.partition(" They")[0] for caution in said] == [expected] * warned
