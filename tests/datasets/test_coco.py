"""COCO files: joins by name and id, boxes, crowds, and files for each split."""

import json
import re

import pytest

from lib.datasets import coco as reader
from lib.datasets.coco_json import files
from lib.datasets.listing import scan


def read(root):
    listing = scan(root)
    return reader.read(listing, files(listing))


def faults(source):
    return source.faults + [fault for record in source.records for fault in record.faults]


def kinds(source):
    return [fault.kind for fault in faults(source)]


def image(number, name=None, **extra):
    return {"id": number, "file_name": name or f"{number}.png", "width": 100, "height": 80, **extra}


def annotation(number, image_id=1, category=1, bbox=(10, 20, 30, 40), **extra):
    return {"id": number, "image_id": image_id, "category_id": category, "bbox": list(bbox), **extra}


def test_boxes_names_and_negatives(coco):
    coco.write("all.json", [image(1), image(2)], [annotation(7), annotation(9, category=3, bbox=(0.5, 0, 10.25, 80))])
    source = read(coco.root)
    first, second = source.records
    assert [(i.number, i.name, i.box) for i in first.items] == [
        (0, "cat", (10, 20, 40, 60)), (1, "dog", (0.5, 0, 10.75, 80))]  # fmt: skip
    assert first.size == (100, 80)
    assert second.items == []
    assert second.annotation == "all.json"
    assert not kinds(source)
    assert source.sets == set()


@pytest.mark.parametrize(
    ("paths", "folders"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), ("train2017", "val2017")),
        (("train/_annotations.coco.json", "valid/_annotations.coco.json"), ("train", "valid")),
        (("train.json", "val.json"), ("images", "images/more")),
        (("annotations/train.json", "annotations/val.json"), ("images/train", "images/val")),
    ],
)
def test_one_file_per_split(coco, paths, folders):
    for number, (path, folder) in enumerate(zip(paths, folders, strict=True)):
        # The same image id and file name in both, as exporters make them.
        name = "1.png" if folders[0] != "images" else f"{number}.png"
        coco.write(path, [image(1, name)], [annotation(1, bbox=(number, 0, 5, 5))], folder=folder)
    source = read(coco.root)
    assert not kinds(source)
    assert source.sets == {"train", "val"}
    found = {record.image_id.rpartition("/")[0]: (record.sets, record.items[0].box[0]) for record in source.records}
    assert found == {folders[0]: ({"train"}, 0), folders[1]: ({"val"}, 1)}


def test_captions_and_keypoints_are_left_aside(coco):
    for name in ("instances", "captions", "person_keypoints"):
        coco.write(f"annotations/{name}_val2017.json", [image(1)], [annotation(1)], folder="val2017")
    source = read(coco.root)
    assert [len(record.items) for record in source.records] == [1]
    assert not kinds(source)


def test_case_15_categories_are_joined_by_name(coco):
    names = ("angle", "top", "head")
    first = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    second = [{"id": i, "name": name} for i, name in zip((2, 1, 3), names, strict=True)]
    coco.write("train.json", [image(1, "a.png")], [annotation(1, category=1)], first)
    coco.write("val.json", [image(1, "b.png")], [annotation(1, category=2)], second)
    source = read(coco.root)
    assert [record.items[0].name for record in source.records] == ["angle", "angle"]
    assert not kinds(source)


def test_case_15_lists_differ(coco):
    coco.write("train.json", [image(1, "a.png")], [annotation(1)])
    coco.write("val.json", [image(1, "b.png")], [annotation(1)], [{"id": 1, "name": "cat"}])
    assert kinds(read(coco.root)) == ["categories differ between files"]
    assert "val.json: lacks ['dog']" in str(read(coco.root).faults[0])


@pytest.mark.parametrize("ids", [(1, 3, 90), (0,), (74673216,)])
def test_case_16_any_ids(coco, ids):
    categories = [{"id": i, "name": f"c{i}"} for i in ids]
    coco.write("all.json", [image(1)], [annotation(i, category=i) for i in ids], categories)
    source = read(coco.root)
    assert [item.name for item in source.records[0].items] == [f"c{i}" for i in ids]
    assert not kinds(source)


def test_case_16_undeclared_category(coco):
    coco.write("all.json", [image(1)], [annotation(1), annotation(5, category=2)])
    source = read(coco.root)
    assert kinds(source) == ["undeclared category"]
    assert "all.json, annotation 5 (1.png): category_id 2 is not declared" in str(faults(source)[0])
    assert len(source.records[0].items) == 1


def test_case_18_crowd_and_missing_keys(coco):
    rle = {"counts": [0, 10, 40], "size": [10, 5]}
    rows = [annotation(1), annotation(2, iscrowd=1, segmentation=rle, area=10.0), annotation(3, iscrowd=0, area=1)]
    coco.write("all.json", [image(1)], rows)
    source = read(coco.root)
    assert [item.crowd for item in source.records[0].items] == [False, True, False]
    assert not kinds(source)


def test_case_20_zero_width_is_handed_on(coco):
    coco.write("all.json", [image(1)], [annotation(1, bbox=(10, 10, 0, 20))])
    source = read(coco.root)
    assert source.records[0].items[0].box == (10, 10, 10, 30)
    assert not kinds(source)


@pytest.mark.parametrize(
    ("bbox", "kind"),
    [((10, 10, -1, 5), "inverted box"), (("10", 1, 2, 3), "not a number"), ((None, 1, 2, 3), "not a number"),
     ((True, 1, 2, 3), "not a number"), ((1, 2, 3), "object without box"), ((), "object without box"),
     ((10**400, 0, 1, 1), "non-finite number")],
)  # fmt: skip
def test_bad_boxes(coco, bbox, kind):
    coco.write("all.json", [image(1)], [annotation(4, bbox=bbox), annotation(5)])
    source = read(coco.root)
    assert kinds(source) == [kind]
    assert "all.json, annotation 4 (1.png): bbox is" in str(faults(source)[0])
    assert [item.number for item in source.records[0].items] == [1]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_case_8_constants_are_refused_with_their_places(coco, text):
    path = coco.write(
        "all.json", [image(1)], [annotation(1), annotation(2, bbox=(-77, 1, 2, 3)), annotation(3, area=-77)]
    )
    path.write_text(path.read_text().replace("-77", text))
    source = read(coco.root)
    assert kinds(source) == ["non-finite number"] * 2
    assert [str(f).split(".")[0] for f in source.faults] == ["all"] * 2
    assert f"all.json, annotations[1].bbox[0], annotation 2 (1.png): is {text}" in str(source.faults[0])
    assert f"all.json, annotations[2].area, annotation 3 (1.png): is {text}" in str(source.faults[1])
    assert source.records == []


def test_case_8_overflow(coco):
    path = coco.write("all.json", [image(1)], [annotation(1, bbox=(-77, 1, 2, 3))])
    path.write_text(path.read_text().replace("-77", "1e999"))
    assert kinds(read(coco.root)) == ["non-finite number"]


@pytest.mark.parametrize(
    "change", [lambda text: text[:-30], lambda text: text.replace('"categories": [', '"categories": 3, "x": [')]
)
def test_broken_json(coco, change):
    path = coco.write("all.json", [image(1)], [annotation(1)])
    path.write_text(change(path.read_text()))
    assert kinds(read(coco.root)) == ["unreadable JSON"]


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16"])
def test_encodings(coco, codec):
    path = coco.write("all.json", [image(1)], [annotation(1)], [{"id": 1, "name": "猫"}])
    path.write_bytes(json.dumps(json.loads(path.read_text()), ensure_ascii=False).encode(codec))
    assert read(coco.root).records[0].items[0].name == "猫"


def test_duplicate_ids(coco):
    coco.write("all.json", [image(1), image(1, "other.png"), image(2, "1.png")], [annotation(1), annotation(1)])
    found = kinds(read(coco.root))
    assert found == ["duplicate image id"] * 2 + ["duplicate annotation id"] * 2


def test_dangling_image_id_and_missing_file(coco):
    coco.write("all.json", [image(1), image(2)], [annotation(1), annotation(2, image_id=9), annotation(3, image_id=2)])
    (coco.root / "2.png").unlink()
    source = read(coco.root)
    assert kinds(source) == ["listed image missing", "annotation without image"]
    assert [len(record.items) for record in source.records] == [1]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/1.png", "a/1.png"),
        ("./b/1.png", "b/1.png"),
        ("..\\data\\b\\1.png", "b/1.png"),
        ("/home/me/c/d/2.png", "2.png"),
    ],
)
def test_file_name_with_folders(coco, image_at, name, found):
    for path in ("a/1.png", "b/1.png", "2.png"):
        image_at(coco.root / path)
    (coco.root / "all.json").write_text(
        json.dumps({"images": [image(1, name)], "annotations": [], "categories": [{"id": 1, "name": "x"}]})
    )
    source = read(coco.root)
    if name.startswith(".."):
        # data/b/1.png is not there; the bare name is there twice, at equal distance from the file.
        assert kinds(source) == ["two images for one annotation"]
    else:
        assert [record.image_id for record in source.records] == [found]


def write(path, rows, annotations=()):
    """The file alone, without the images."""
    content = {"images": rows, "annotations": list(annotations), "categories": [{"id": 1, "name": "cat"}]}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        ("Caf\u00e9.png", "Cafe\u0301.png"),
        ("Cafe\u0301.png", "Caf\u00e9.png"),
        ("IMG_1.png", "IMG_1.PNG"),
        ("IMG_1.PNG", "IMG_1.png"),
        ("img_1.png", "IMG_1.png"),
        ("CAF\u00c9.png", "cafe\u0301.png"),
        ("Train/IMG_1.png", "train/img_1.PNG"),
        (".\\train\\IMG_1.png", "train/IMG_1.PNG"),
        ("./././IMG_1.png", "IMG_1.png"),
        ("C:\\Users\\Me\\IMG_1.png", "images/img_1.png"),
    ],
)
def test_case_107_names_spelled_otherwise(coco, image_at, written, on_disk):
    image_at(coco.root / on_disk)
    image_at(coco.root / "other.png")
    write(coco.root / "all.json", [image(1, written)], [annotation(1)])
    source = read(coco.root)
    assert [(record.image_id, len(record.items)) for record in source.records] == [(on_disk, 1)]
    assert not kinds(source)


@pytest.mark.parametrize(
    ("written", "on_disk", "meant"),
    [
        ("a.png", ["a.png", "a.PNG", "A.png"], ["a.png"]),
        ("\u00e9.png", ["\u00e9.png", "e\u0301.png"], ["\u00e9.png"]),
        # The same letters in another normal form are nearer than capitals.
        ("\u00e9.png", ["e\u0301.png", "\u00c9.png"], ["e\u0301.png"]),
        # A folder that fits but for its capitals is nearer than a name alone.
        ("one/a.png", ["One/a.png", "two/a.png"], ["One/a.png"]),
        ("A.png", ["a.png", "a.PNG"], ["a.PNG", "a.png"]),
        ("a.png", ["a.jpg"], []),
    ],
)
def test_case_107_the_nearest_spelling_or_a_fault(coco, image_at, written, on_disk, meant):
    for name in on_disk:
        image_at(coco.root / name)
    write(coco.root / "all.json", [image(1, written)])
    source = read(coco.root)
    if len(meant) == 1:
        assert [record.image_id for record in source.records] == meant
        assert not kinds(source)
    else:
        assert kinds(source) == ["two images for one annotation" if meant else "listed image missing"]
        assert f"all.json, image 1 ({written})" in str(source.faults[0])
        assert all(name in str(source.faults[0]) for name in meant)


def test_case_107_two_names_for_one_file_are_told(coco, image_at):
    image_at(coco.root / "a.png")
    write(coco.root / "all.json", [image(1, "a.png"), image(2, "A.png")])
    source = read(coco.root)
    assert kinds(source) == ["duplicate image id"]
    assert "all.json, image 2 (A.png): its id or its image a.png occurs twice" in str(source.faults[0])


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"id": 7}, "annotation 7 (a.png)"),
        ({"id": "seven"}, "annotation 'seven' (a.png)"),
        ({"id": 7.0}, "annotation 7.0 (a.png)"),
        ({}, "annotations[1] (a.png)"),
    ],
)
def test_case_108_the_place_of_an_annotation(coco, image_at, row, place):
    image_at(coco.root / "a.png")
    bad = {"image_id": 1, "category_id": 1, "bbox": [1, 2, -3, 4]} | row
    write(coco.root / "all.json", [image(1, "a.png")], [annotation(1), bad])
    assert [fault.where for fault in faults(read(coco.root))] == [f"all.json, {place}"]


@pytest.mark.parametrize(
    ("rows", "key", "where"),
    [
        ("images", "id", "all.json, images[0].id, image 1.0 (1.png)"),
        ("categories", "id", "all.json, categories[0].id, category 1.0"),
        ("annotations", "image_id", "all.json, annotations[0].image_id, annotation 1"),
        ("annotations", "category_id", "all.json, annotations[0].category_id, annotation 1 (1.png)"),
    ],
)
@pytest.mark.parametrize("wrong", [float, lambda number: [number], bool])
def test_case_113_ids_that_are_no_ids_are_said_once(coco, rows, key, where, wrong):
    path = coco.write("all.json", [image(1), image(2)], [annotation(1), annotation(2, category=3)])
    content = json.loads(path.read_text())
    for row in content[rows]:
        row[key] = wrong(row[key])
    path.write_text(json.dumps(content))
    source = read(coco.root)
    assert kinds(source) == ["not an id"]
    value = wrong(1)
    assert source.faults[0].where == where.replace("1.0", repr(value))
    assert f"is {value!r}; 2 of 2 {rows} have such ids. Allowed: a whole number or text" in str(source.faults[0])


def test_case_106_what_is_no_text_inside_the_file(coco):
    path = coco.write("all.json", [image(1), image(2)], [annotation(1)], [{"id": 1, "name": "cat-CATEGORY"}])
    text = path.read_text().replace("2.png", "Mu\\udcf1oz.png").replace("-CATEGORY", "\\ud83d")
    path.write_text(text)
    source = read(coco.root)
    assert kinds(source) == ["name is no text"] * 2
    assert [str(fault).isascii() for fault in source.faults] == [True, True]
    assert r"all.json, images[1].file_name, image 2 ('Mu\udcf1oz.png'): is 'Mu\udcf1oz.png'" in str(source.faults[0])
    assert r"all.json, categories[0].name, category 1: is 'cat\ud83d'" in str(source.faults[1])


def test_case_106_text_that_is_not_used_may_be_broken(coco):
    path = coco.write("all.json", [image(1, caption="CAPTION")], [annotation(1)])
    path.write_text(path.read_text().replace("CAPTION", "\\ud83d"))
    source = read(coco.root)
    assert not kinds(source)
    assert len(source.records[0].items) == 1


def test_case_106_json_in_another_encoding(coco):
    path = coco.write("all.json", [image(1)], [annotation(1)], [{"id": 1, "name": "NAME"}])
    text = path.read_bytes()
    path.write_bytes(text.replace(b"NAME", "Mu\u00f1oz".encode("latin-1")))
    source = read(coco.root)
    assert kinds(source) == ["unreadable JSON"]
    problem = f"all.json: byte {text.index(b'NAME') + 2} is no valid utf-8. Allowed: JSON in UTF-8"
    assert problem in str(source.faults[0])


def test_sizes_unknown(coco):
    coco.write("all.json", [image(1, width=0), image(2, height=None)], [annotation(1)])
    assert [record.size for record in read(coco.root).records] == [None, None]


def test_overlapping_files_give_each_image_once(coco):
    for name in ("train", "trainval", "val"):
        rows = [image(1, "a.png")] * (name != "val") + [image(2, "b.png")] * (name != "train")
        coco.write(f"{name}.json", rows, [annotation(1, rows[0]["id"])])
    source = read(coco.root)
    assert {r.image_id: (r.sets, len(r.items)) for r in source.records} == {
        "a.png": ({"train", "trainval"}, 1), "b.png": ({"trainval", "val"}, 0)}  # fmt: skip
    assert not kinds(source)


def test_two_files_without_split(coco):
    coco.write("first.json", [image(1, "a.png")], [])
    coco.write("second.json", [image(1, "a.png")], [])
    assert kinds(read(coco.root)) == ["split unclear", "split unclear", "two annotations for one image"]
    assert re.match("first.json: tells no split, and there are 2 files", str(read(coco.root).faults[0]))
