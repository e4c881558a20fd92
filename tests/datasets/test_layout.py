"""The format of a folder, and what is said of a folder that has none."""

import pytest

from lib.datasets.layout import read
from lib.datasets.lists import CALLED_AFTER_SETS
from lib.stage.errors import InputError
from tests.datasets.loading import refused


@pytest.fixture
def both(voc, obj, coco):
    voc.add("1", obj())
    coco.write("all.json", [{"id": 1, "file_name": "2.png"}], [])
    return voc.root


def test_auto(tmp_path, voc_at, obj, coco):
    voc_at(tmp_path / "v").add("1", obj())
    coco.write("all.json", [{"id": 1, "file_name": "2.png"}], [])
    assert read(tmp_path / "v").format == "voc"
    assert read(coco.root).format == "coco"


def test_two_formats(both):
    with pytest.raises(InputError, match=r"1 VOC annotations \(Annotations/1.xml\) and 1 COCO files \(all.json\)"):
        read(both)
    assert read(both, "voc").format == "voc"
    assert read(both, "coco").format == "coco"


def test_stray_files_of_the_other_kind(voc, obj, coco):
    voc.add("1", obj())
    (voc.root / "settings.json").write_text("{}")
    assert read(voc.root).format == "voc"
    (voc.annotations / "1.xml").write_text("<project/>")
    coco.write("all.json", [{"id": 1, "file_name": "2.png"}], [])
    assert read(voc.root).format == "coco"


def files_of(root, lists=CALLED_AFTER_SETS, **kw):
    source = read(root, lists=lists, **kw)
    sets_of = {record.image_id: record.sets for record in source.records}
    return sets_of, [str(fault) for fault in source.faults], [str(note) for note in source.notes]


def test_case_111_a_file_without_annotations_is_named(coco):
    coco.write("train.json", [{"id": 1, "file_name": "1.png"}], [])
    coco.write("val.json", [{"id": 1, "file_name": "2.png"}], [])
    (coco.root / "test.json").write_text('{"images": [{"id": 1, "file_name": "2.png"}], "categories": []}')
    (coco.root / "more.json").write_bytes(b"\xff\xfe" + '{"annotations": []}'.encode("utf-16-le"))
    (coco.root / "package.json").write_text('{"name": "tool"}')
    sets_of, faults, notes = files_of(coco.root)
    assert sets_of == {"1.png": {"train"}, "2.png": {"val"}}
    assert not faults
    assert notes == ['more.json: lacks "images": not used.', 'test.json: lacks "annotations": not used.']
    seen, message = refused(coco.root)
    assert seen == ["no test split"]
    assert 'test.json: lacks "annotations": not used' in message


def test_case_111_no_file_with_annotations(coco):
    coco.write("test.json", [{"id": 1, "file_name": "2.png"}], [])
    (coco.root / "test.json").write_text('{"images": [{"id": 1, "file_name": "2.png"}], "categories": []}')
    with pytest.raises(InputError, match=r'holds 1 images but no annotations; test.json lacks "annotations"; found'):
        read(coco.root)
    with pytest.raises(InputError, match=r'test.json lacks "annotations"; found'):
        read(coco.root, "coco")


def test_repeats_of_the_instances_are_not_named(coco):
    for name in ("instances_train2017", "captions_train2017", "instances_test2017"):
        coco.write(f"annotations/{name}.json", [{"id": 1, "file_name": f"{name[-9:]}.png"}], [])
    assert files_of(coco.root)[1:] == ([], [])


def test_annotation_files_by_name(coco):
    for name in ("first", "second", "third"):
        coco.write(f"{name}.json", [{"id": 1, "file_name": f"{name}.png"}], [])
    (coco.root / "fourth.json").write_text('{"images": []}')
    sets_of, faults, notes = files_of(coco.root, {"train": "first", "test": "third"})
    assert sets_of == {"first.png": {"train"}, "third.png": {"test"}}
    assert not faults
    assert notes == [
        'fourth.json: lacks "annotations": not used.',
        "second.json: is not named in data.lists: not used.",
    ]
    assert files_of(coco.root, {"train": "first", "test": "fourth"})[1] == [
        'data.lists.test: there is no list fourth: fourth.json lacks "annotations". Allowed: first, second, third. '
        "Name a list that is there, or add this one."
    ]
    assert refused(coco.root, lists={"train": "first", "test": "fourth"})[0] == ["named list not there"]


def test_annotation_files_of_one_name_are_told_apart_by_folder(coco):
    for part in ("train", "valid"):
        coco.write(f"{part}/_annotations.coco.json", [{"id": 1, "file_name": f"{part}.png"}], [], folder=part)
    lists = {"train": "train/_annotations.coco", "test": "valid/_annotations.coco"}
    assert files_of(coco.root, lists)[:2] == ({"train/train.png": {"train"}, "valid/valid.png": {"test"}}, [])
    (fault,) = files_of(coco.root, {"train": "_annotations.coco"})[1]
    assert "could be train/_annotations.coco.json or valid/_annotations.coco.json" in fault


def test_missing_root(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: does not exist.*data.root"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        read(tmp_path / "file")


def test_nothing_found_tells_what_is_there(tmp_path, image_at):
    with pytest.raises(InputError, match=r"holds no images; found no files.*VOC2007/Annotations.*COCO"):
        read(tmp_path)
    image_at(tmp_path / "photos" / "a.png")
    (tmp_path / "photos" / "a.txt").touch()
    with pytest.raises(InputError, match=r"1 images but no annotations; found 1 .png, 1 .txt in the folders photos"):
        read(tmp_path)
    (tmp_path / "a.xml").write_text("<annotation/>")
    with pytest.raises(InputError, match="holds no coco annotations"):
        read(tmp_path, "coco")


def test_a_loop_of_links_ends(voc, obj):
    voc.add("1", obj())
    (voc.images / "again").symlink_to(voc.root)
    assert len(read(voc.root).records) == 1
