"""The format of a folder, and what is said of a folder that has none."""

import pytest

from lib.datasets.layout import read
from lib.stage.errors import InputError


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
