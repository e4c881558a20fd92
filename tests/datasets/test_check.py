"""The whole data set: every known fault, strict and lenient, with the exact right value."""

import pandas as pd
import pytest
from pydantic import ValidationError

from lib.datasets.check import load
from lib.datasets.settings import DataSettings
from lib.stage.errors import InputError
from lib.stage.params import validate
from lib.storage.tables import IMAGES, OBJECTS, to_arrow
from tests.datasets.loading import boxes_of, lenient, noted, refused, strict


def test_tables_have_their_schemas(voc, obj):
    with_objects = voc.add("b", obj("cat", extra="<difficult>1</difficult><truncated>1</truncated>"), obj("dog"))
    negative = voc.add("a")
    dataset = strict(voc.root)
    assert to_arrow(dataset.images, IMAGES, "images").schema == IMAGES
    assert to_arrow(dataset.objects, OBJECTS, "objects").schema == OBJECTS
    assert dataset.images["image_id"].tolist() == [negative, with_objects]
    assert dataset.images[["width", "height"]].to_numpy().tolist() == [[100, 80]] * 2
    assert dataset.objects["object"].tolist() == [0, 1]
    assert dataset.objects[["difficult", "truncated", "crowd"]].to_numpy().tolist() == [
        [True, True, False],
        [False] * 3,
    ]
    assert boxes_of(dataset) == [[10, 20, 40, 50]] * 2
    assert dataset.classes == ["cat", "dog"]
    assert dataset.faults == dataset.notes == []


def test_case_6_all_faults_at_once(voc, obj):
    for number in range(60):
        voc.add(f"{number:03}", obj(corners=(90, 1, 190 + number, 50)))
    kinds, message = refused(voc.root)
    assert len(kinds) == 60
    assert "Annotations/000.xml, object 0 (dog): the box is [89, 0, 190, 50]" in message
    assert "and 10 more of 60 faults" in message


@pytest.mark.parametrize(
    ("bad", "kind", "left"),
    [
        ({"corners": ("12,5", 1, 10, 10)}, "not a number", 1),
        ({"name": ""}, "object without class", 1),
        ({"extra": "<difficult>Unspecified</difficult>"}, "not a flag", 2),
    ],
)
def test_faults_of_one_object(voc, obj, bad, kind, left):
    voc.add("1", obj(), obj(**bad))
    assert refused(voc.root)[0] == [kind]
    dataset = lenient(voc.root)
    assert len(dataset.objects) == left
    assert dataset.repairs == {kind: 1}


def test_case_14_class_list(voc, obj):
    voc.add("1", obj("raccoon"), obj("raccoon"), obj(" Raccoon2 "))
    kinds, message = refused(voc.root, classes=["Raccoon", "Raccoon2"])
    assert kinds == ["class not in the list"]
    assert "'raccoon' is not listed and is the class of 2 objects, first in Annotations/1.xml" in message
    assert "listed but without objects: Raccoon." in message
    assert "Did you mean Raccoon?" in message
    dataset = lenient(voc.root, classes=["Raccoon", "Raccoon2"])
    assert dataset.classes == ["Raccoon", "Raccoon2"]
    assert dataset.objects["class"].tolist() == ["Raccoon2"]


def test_case_14_capitals_alone(voc, obj):
    voc.add("1", obj("YANHUO"))
    assert "Did you mean yanhuo?" in refused(voc.root, classes=["yanhuo"])[1]


def test_case_14_unicode_and_order(voc, obj):
    voc.add("1", obj("Cafe\u0301"), obj("Café"), obj("traffic light"))
    assert strict(voc.root).classes == ["Café", "traffic light"]
    assert strict(voc.root, classes=["traffic light", "Cafe\u0301 "]).classes == ["traffic light", "Café"]


@pytest.mark.parametrize("classes", ["raccoon", [], ["a", "a"], ["a", " a"], [""], [False, "b"]])
def test_case_14_and_61_what_is_no_class_list(classes):
    with pytest.raises(ValidationError):
        DataSettings(classes=classes)
    with pytest.raises(InputError, match="data"):
        validate({"data": {"classes": classes}}, {"data": DataSettings})


def test_fractions_beyond_one():
    with pytest.raises(ValidationError, match="at most 1"):
        DataSettings(val_fraction=0.6, test_fraction=0.6)


def test_case_15_and_16_coco(coco):
    row = {"id": 1, "file_name": "a.png", "width": 100, "height": 80}
    bbox = [10, 20, 30, 40]
    coco.write(
        "train.json", [row], [{"id": 1, "image_id": 1, "category_id": 90, "bbox": bbox}], [{"id": 90, "name": "x"}]
    )
    other = {"id": 1, "image_id": 1, "category_id": 0, "bbox": bbox, "iscrowd": 1}
    coco.write("test.json", [row | {"file_name": "b.png"}], [other], [{"id": 0, "name": "x"}])
    dataset = strict(coco.root)
    assert dataset.classes == ["x"]
    assert dataset.images["split"].isin(["train", "val", "test"]).all()
    assert dataset.objects["crowd"].tolist() == [False, True]
    assert boxes_of(dataset) == [[10, 20, 40, 60]] * 2


def test_case_23_one_bad_file_does_not_hide_the_others(voc, obj):
    voc.add("1", text=b" ")
    voc.add("2", text="<annotation><a></annotation>")
    voc.add("3", obj(corners=(90, 1, 190, 50)))
    voc.add("4", obj())
    kinds, message = refused(voc.root)
    assert kinds == ["unreadable annotation", "unreadable annotation", "box over the border"]
    assert all(f"Annotations/{n}.xml" in message for n in (1, 2, 3))
    dataset = lenient(voc.root)
    # What the annotation would have said is unknown, so the image is no negative.
    assert dataset.images["image_id"].tolist() == ["JPEGImages/3.png", "JPEGImages/4.png"]


def test_cases_30_and_32_images_that_cannot_be_used(voc, obj):
    ids = [voc.add(str(n), obj()) for n in range(4)]
    whole = (voc.root / ids[1]).read_bytes()
    (voc.root / ids[1]).write_bytes(whole[: len(whole) // 2])
    (voc.root / ids[2]).write_bytes(b"<html>not found</html>")
    voc.add("big", obj(), image_size=(200, 100), size=(200, 100))
    kinds, message = refused(voc.root, max_pixels=8000)
    assert kinds == ["unreadable image", "unreadable image", "image too large"]
    assert "JPEGImages/2.png: no image that can be read, it begins with b'<html>not found<'" in message
    dataset = lenient(voc.root, max_pixels=8000)
    assert dataset.images["image_id"].tolist() == [ids[0], ids[3]]
    assert dataset.repairs == {"image too large": 1, "unreadable image": 2}


def test_case_36_images_without_objects_are_kept(voc, obj):
    voc.add("1", obj(extra="<difficult>1</difficult>"))
    voc.add("2")
    voc.add("3", text="")
    dataset = strict(voc.root)
    assert len(dataset.images) == 3
    assert len(dataset.objects) == 1
    assert noted(dataset) == ["image without annotation"]


def test_case_22_two_images_for_one_annotation_leave_both_out(voc, obj, image_at):
    voc.add("1", obj())
    voc.add("2", obj())
    image_at(voc.images / "1.bmp")
    assert refused(voc.root)[0] == ["two images for one annotation"]
    assert lenient(voc.root).images["image_id"].tolist() == ["JPEGImages/2.png"]


def test_two_images_of_which_one_is_listed_are_told(voc, obj, image_at):
    voc.add("1", obj())
    voc.lists(train=["1.png"], test=[])
    image_at(voc.images / "1.bmp")
    kinds, _ = refused(voc.root)
    assert set(kinds) == {"two images for one annotation"}


def test_no_objects_at_all(voc):
    voc.add("1")
    kinds, message = refused(voc.root, lenient)
    assert kinds == ["no objects"]
    assert "of 1 images in the splits 1 can be used, and none holds an object" in message


def test_only_listed_images_count(voc, obj):
    voc.add("1", obj())
    voc.add("2", obj())
    voc.add("broken", text="<")
    voc.lists(train=["1"], val=[], test=["2"])
    dataset = strict(voc.root)
    assert dataset.images["split"].tolist() == ["train", "test"]
    assert noted(dataset) == ["image in no list"]
    assert refused(voc.root, splits="hash")[0] == ["unreadable annotation"]


@pytest.mark.parametrize("mode", [strict, lenient])
def test_image_in_two_lists_stops_both_modes(voc, obj, mode):
    voc.add("1", obj())
    voc.lists(train=["1"], test=["1"])
    assert refused(voc.root, mode)[0] == ["image in two splits"]


def test_threads_change_nothing(voc, obj):
    for number in range(12):
        voc.add(str(number), obj())
    calls = []
    single = load(voc.root, DataSettings(), workers=1, progress=lambda *seen: calls.append(seen))
    four = load(voc.root, DataSettings(), workers=4)
    pd.testing.assert_frame_equal(single.images, four.images)
    assert calls == [(n, 12) for n in range(1, 13)]
    assert single.images["content"].nunique() == 12


def test_object_without_box(voc, obj):
    voc.add("1", obj(), "<object><name>x</name></object>")
    assert refused(voc.root)[0] == ["object without box"]
    assert lenient(voc.root).objects["class"].tolist() == ["dog"]


def test_annotation_without_image(voc, obj):
    voc.add("1", obj())
    (voc.annotations / "2.xml").write_text("<annotation/>")
    assert refused(voc.root)[0] == ["annotation without image"]
    assert lenient(voc.root).repairs == {"annotation without image": 1}


def test_lists_that_disagree(voc, obj):
    voc.add("1", obj())
    voc.add("2", obj())
    voc.lists(train=[], val=[], trainval=["2"], test=["1"])
    assert refused(voc.root)[0] == ["lists disagree"]
    assert lenient(voc.root).images["split"].tolist() == ["test", "train"]


def test_listed_image_missing(voc, obj):
    voc.add("1", obj())
    voc.lists(train=["1", "9"], test=[])
    assert refused(voc.root)[0] == ["listed image missing"]
    assert lenient(voc.root).images["split"].isin(["train", "val"]).all()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("undeclared category", {"category_id": 5}),
        ("duplicate annotation id", {"id": 1}),
        ("annotation without image", {"image_id": 8}),
        ("not a flag", {"iscrowd": "yes"}),
        ("inverted box", {"bbox": [9, 9, -3, 9]}),
    ],
)
def test_other_faults_of_coco(coco, kind, change):
    images = [{"id": 1, "file_name": "a.png", "width": 100, "height": 80}]
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}
    coco.write("all.json", images, [row, row | {"id": 2, "bbox": [1, 1, 9, 9]} | change])
    assert set(refused(coco.root)[0]) == {kind}
    kept = [[10, 20, 40, 60]] + [[1, 1, 10, 10]] * (kind in ("duplicate annotation id", "not a flag"))
    dataset = lenient(coco.root)
    assert boxes_of(dataset) == kept
    assert set(dataset.repairs) == {kind}
    assert not dataset.objects["crowd"].any()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"bbox": [90, 20, 30, 40]}, "box over the border"),
        ({"bbox": [190, 20, 30, 40]}, "box outside the image"),
        ({"bbox": [90, 20, 1, 1]}, "box under min_box_size"),
        ({"bbox": [90, 20, 0, 1]}, "box under min_box_size"),
        ({"bbox": [90, 20]}, "object without box"),
        ({"category_id": 5}, "undeclared category"),
        ({"iscrowd": "yes"}, "not a flag"),
        ({"id": 1}, "duplicate annotation id"),
    ],
)
def test_case_108_faults_and_notes_of_coco_name_image_and_annotation(coco, change, kind):
    images = [{"id": n, "file_name": f"{name}.png", "width": 100, "height": 80} for n, name in enumerate("ab")]
    row = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [10, 20, 30, 40]}
    wrong = row | {"id": 44, "image_id": 1} | change
    coco.write("all.json", images, [row, wrong])
    dataset = lenient(coco.root)
    places = [fault.where for fault in dataset.faults + dataset.notes if fault.kind == kind]
    assert places[-1] == f"all.json, annotation {wrong['id']} (b.png)"


def test_case_108_what_is_wrong_with_an_image_of_coco_names_it(coco, image_at):
    rows = [{"id": 1, "file_name": "a.png", "width": 80, "height": 100}, {"id": 2, "file_name": "b.png"}]
    box = {"id": 9, "image_id": 2, "category_id": 1, "bbox": [10, 20, 30, 40]}
    for name in "ab":
        image_at(coco.root / f"{name}.png")
    coco.write("all.json", rows, [box])
    dataset = lenient(coco.root)
    assert [(fault.kind, fault.where) for fault in dataset.faults + dataset.notes] == [
        ("size differs from the image", "all.json, image 1 (a.png)"),
        ("size missing or 0 in the annotation", "all.json, image 2 (b.png)"),
    ]
    _, message = refused(coco.root, lenient, classes=["dog", "bird"])
    assert "first in all.json, annotation 9 (b.png)" in message


def test_categories_that_differ_are_joined_in_lenient_mode(coco):
    row = {"id": 1, "width": 100, "height": 80}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40]}
    coco.write("train.json", [row | {"file_name": "a.png"}], [box])
    coco.write("test.json", [row | {"file_name": "b.png"}], [box], [{"id": 1, "name": "dog"}])
    assert refused(coco.root)[0] == ["categories differ between files"]
    assert lenient(coco.root).objects["class"].tolist() == ["cat", "dog"]
