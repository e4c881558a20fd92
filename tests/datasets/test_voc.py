"""VOC folders: which image belongs to which annotation, and what the split lists say."""

import pytest

from lib.datasets import voc as reader
from lib.datasets.listing import scan
from tests.datasets.loading import noted, refused, strict


def read(root):
    return reader.read(scan(root))


def by_id(source):
    return {record.image_id: record for record in source.records}


def kinds(source):
    return [fault.kind for record in source.records for fault in record.faults] + [f.kind for f in source.faults]


@pytest.mark.parametrize(
    ("annotations", "images"),
    [("Annotations", "JPEGImages"), (".", "."), ("xml", "pictures"), ("a/labels", "a/images"), ("", "images/deep/er")],
)
def test_layouts(tmp_path, voc_at, obj, annotations, images):
    data = voc_at(tmp_path, annotations, images)
    first, second = data.add("000001", obj()), data.add("b", obj("cat"))
    negative = data.add("c", text="")
    records = by_id(read(tmp_path))
    assert [item.name for item in records[first].items] == ["dog"]
    assert [item.name for item in records[second].items] == ["cat"]
    assert records[negative].annotation is None
    assert len(records) == 3


def test_devkit_of_two_years(tmp_path, voc_at, obj):
    for year in ("VOC2007", "VOC2012"):
        data = voc_at(tmp_path, f"{year}/Annotations", f"{year}/JPEGImages")
        data.add("000001", obj(year), filename="000001.png")
        data.lists(train=["000001"])
    # Masks bear the names of the images.
    voc_at(tmp_path, "x", "VOC2007/SegmentationClass").add("000001", text="")
    source = read(tmp_path)
    found = {image_id: record.items[0].name for image_id, record in by_id(source).items()}
    assert found == {"VOC2007/JPEGImages/000001.png": "VOC2007", "VOC2012/JPEGImages/000001.png": "VOC2012"}
    assert source.sets == {"train"}
    assert not kinds(source)


def test_same_names_in_parallel_folders(tmp_path, voc_at, obj):
    for part in ("day", "night"):
        voc_at(tmp_path, f"labels/{part}", f"images/{part}").add("1", obj(part))
        voc_at(tmp_path, f"{part}2", f"{part}2").add("1", obj(part))
    for image_id, record in by_id(read(tmp_path)).items():
        assert record.items[0].name in image_id


@pytest.mark.parametrize("filename", ["000083_jpg.rf.x.jpg", "raccoon", r"C:\pics\1.jpg", ""])
def test_case_22_filename_is_a_hint(voc, obj, filename):
    image = voc.add("000244", obj(), filename=filename)
    source = read(voc.root)
    assert len(by_id(source)[image].items) == 1
    assert not kinds(source)
    notes = [note.kind for record in source.records for note in record.notes]
    assert notes == (["filename differs from the annotation's name"] if filename else [])


def test_case_22_dots_and_capitals(voc, obj):
    voc.add("a.b", obj())
    voc.add("DSC_1", obj(), extension=".PNG", filename="DSC_1.PNG")
    source = read(voc.root)
    assert [len(record.items) for record in source.records] == [1, 1]
    assert {record.image_id for record in source.records} == {"JPEGImages/a.b.png", "JPEGImages/DSC_1.PNG"}


def test_case_22_two_hits(voc, obj, image_at):
    voc.add("1", obj())
    image_at(voc.images / "1.jpg")
    source = read(voc.root)
    assert kinds(source) == ["two images for one annotation"]
    fault = next(fault for record in source.records for fault in record.faults)
    assert "JPEGImages/1.jpg and JPEGImages/1.png" in str(fault)
    assert not any(record.readable for record in source.records)


def test_two_annotations_for_one_image(tmp_path, voc_at, obj):
    voc_at(tmp_path, "new", "images").add("1", obj())
    voc_at(tmp_path, "old", "images").add("1", obj())
    assert kinds(read(tmp_path)) == ["two annotations for one image"]


def test_annotation_without_image(voc, obj):
    voc.add("1", obj())
    (voc.annotations / "2.xml").write_text("<annotation/>")
    source = read(voc.root)
    assert kinds(source) == ["annotation without image"]
    assert "Annotations/2.xml: no image is called 2" in str(source.faults[0])


def test_annotation_without_image_beside_lists_is_noted(voc, obj):
    voc.add("1", obj())
    voc.lists(train=["1"])
    (voc.annotations / "2.xml").write_text("<annotation/>")
    source = read(voc.root)
    assert not kinds(source)
    assert [note.kind for note in source.notes] == ["annotation without image"]


def test_the_same_folder_wins(tmp_path, voc_at, obj):
    voc_at(tmp_path, ".", ".").add("1", obj())
    voc_at(tmp_path, ".", "thumbnails").add("1", text="")
    source = read(tmp_path)
    assert not kinds(source)
    assert {record.image_id: len(record.items) for record in source.records} == {"1.png": 1, "thumbnails/1.png": 0}


def test_case_23_hidden_files_are_skipped_and_bad_ones_do_not_hide_others(voc, obj):
    voc.add("1", obj())
    voc.add("2", text="<annotation>")
    voc.add("3", text="")
    for path in (".idea/workspace.xml", "._1.xml", ".ipynb_checkpoints/1.xml", "__MACOSX/1.xml"):
        file = voc.annotations / path
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"junk")
    source = read(voc.root)
    assert kinds(source) == ["unreadable annotation"]
    assert [record.readable for record in source.records] == [True, False, True]


def test_lists(voc, obj):
    ids = [voc.add(stem, obj()) for stem in ("1", "2", "3", "a.b")]
    voc.lists(train=["1", " 2.png ", ""], trainval=["1", "2"], test=["a.b"])
    source = read(voc.root)
    assert [by_id(source)[i].sets for i in ids] == [{"train", "trainval"}, {"train", "trainval"}, set(), {"test"}]
    assert source.sets == {"train", "trainval", "test"}


def test_list_names_a_missing_image(voc, obj):
    voc.add("1", obj())
    voc.lists(train=["1", "7"])
    source = read(voc.root)
    assert kinds(source) == ["listed image missing"]
    assert str(source.faults[0]).startswith("ImageSets/Main/train.txt, line 2: 7 is listed, but no image is called so")


def test_case_113_an_annotation_that_bears_the_whole_name_of_its_image(tmp_path, voc_at, obj):
    voc = voc_at(tmp_path / "set", ".", ".")
    voc.add("IMG.v2", obj("a"), extension=".jpg")
    (voc.root / "IMG.v2.xml").rename(voc.root / "IMG.v2.jpg.xml")
    voc.add("IMG.v2.jpg", obj("b"), text="", extension=".png")
    # The name without its last ending comes first: the annotation of IMG.v2.jpg.png is IMG.v2.jpg.xml.
    assert strict(voc.root).objects["image_id"].tolist() == ["IMG.v2.jpg.png"]
    (voc.root / "IMG.v2.jpg.png").unlink()
    dataset = strict(voc.root)
    assert dataset.objects["image_id"].tolist() == ["IMG.v2.jpg"]
    assert noted(dataset) == []
    (voc.root / "IMG.v2.xml").write_bytes((voc.root / "IMG.v2.jpg.xml").read_bytes())
    assert refused(voc.root)[0] == ["two annotations for one image"]


def test_case_113_a_heic_beside_its_annotation_is_named(voc, obj, annotation):
    voc.add("1", obj())
    (voc.annotations / "IMG_2.xml").write_text(annotation(obj()))
    (voc.images / "IMG_2.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    kinds, message = refused(voc.root)
    assert kinds == ["annotation without image"]
    assert "no image is called IMG_2, and JPEGImages/IMG_2.HEIC is of no format that is read" in message
    assert "Convert it to JPEG or PNG" in message
    (voc.annotations / "IMG_2.xml").rename(voc.annotations / "IMG_2.HEIC.xml")
    assert "no image is called IMG_2.HEIC, and JPEGImages/IMG_2.HEIC is of no format" in refused(voc.root)[1]
    (voc.images / "1.png").unlink()
    kinds, message = refused(voc.root)
    assert kinds == ["no data"]
    assert "found 1 .heic, 2 .xml" in message
    assert "convert other formats, HEIC say, to JPEG or PNG" in message
