"""Other data under the same pipeline: new content, faults, corrections, other places."""

import re
import shutil

import pandas as pd
import pytest

from tests.pipeline.conftest import stages_run

pytestmark = pytest.mark.pipeline


def test_proposals_are_computed_for_new_content_only(copied):
    def new(changes):
        copied.set_params(changes)
        return re.search(r"propose: 28 images, (\d+) of them new", copied.run("dvc", "repro", "propose").stdout)[1]

    assert new({"splits.train": ["train"], "splits.test": ["val"]}) == "0"
    shutil.copytree(copied.folder / "data/digits/VOCdevkit", copied.folder / "own")
    pictures = sorted((copied.folder / "own/DIGITS/JPEGImages").iterdir())
    pictures[3].unlink()  # the copy may share its bytes with DVC's cache
    pictures[3].write_bytes(pictures[4].read_bytes())
    assert new({"data.root": "own"}) == "1"
    assert new({"proposals.selective_search.max_boxes": 39}) == "28"


def test_a_slip_in_a_late_block_stops_the_first_stage(copied):
    copied.set_params({"digits.seed": 5, "rcnn.detect.nms": 3.0, "evaluate.iou": "0.5"})
    done = copied.run("dvc", "repro", check=False)
    assert done.returncode != 0
    for part in ("rcnn.detect.nms: is 3.0", "less than or equal to 1", "evaluate.iou: is '0.5' (text)", "Write 0.5"):
        assert part in done.stderr
    assert stages_run(done.stdout) == {"data/digits/dvc.yaml:digits"}
    assert "Traceback" not in done.stderr


def test_broken_data_is_reported_whole_and_nothing_is_lost(copied):
    folder = copied.folder / "own"
    source = copied.folder / "data/digits/VOCdevkit/DIGITS"
    (folder / "Annotations").mkdir(parents=True)
    (folder / "JPEGImages").mkdir()
    for number, xml in enumerate(sorted((source / "Annotations").glob("*.xml"))):
        text = xml.read_text()
        if number == 0:
            text = re.sub(r"<xmin>\d+", "<xmin>NaN", text, count=1)
        if number == 1:
            text = re.sub(r"<xmax>\d+", "<xmax>9999", text, count=1)
        (folder / "Annotations" / xml.name).write_text(text)
        (folder / "JPEGImages" / f"{xml.stem}.jpg").write_bytes(
            (source / "JPEGImages" / f"{xml.stem}.jpg").read_bytes()
        )
    copied.set_params({"data.root": "own"})
    done = copied.run("dvc", "repro", check=False)
    assert done.returncode != 0
    names = sorted(path.name for path in (folder / "Annotations").iterdir())
    for part in (names[0], "NaN", names[1], "9999"):
        assert part in done.stderr
    copied.set_params({"data.root": "data/digits/VOCdevkit"})
    # No long work is done again; the report shows the time that prepare took.
    assert stages_run(copied.run("dvc", "repro").stdout) == {"prepare", "report"}


def test_a_corrected_box_a_new_image_and_a_renamed_class_are_all_seen(copied):
    """Case 56c: no copy of the annotations is kept anywhere that DVC does not renew."""
    shutil.copytree(copied.folder / "data/digits/VOCdevkit/DIGITS", copied.folder / "own")
    copied.set_params({"data.root": "own"})
    (copied.folder / "own/Annotations").rename(copied.folder / "own/linked")  # its files may be DVC's own
    shutil.copytree(copied.folder / "own/linked", copied.folder / "own/Annotations", copy_function=shutil.copy)
    shutil.rmtree(copied.folder / "own/linked")

    def objects():
        copied.run("dvc", "repro", "prepare")
        return pd.read_parquet(copied.folder / "data/tables/objects.parquet")

    first, xml = objects(), sorted((copied.folder / "own/Annotations").glob("*.xml"))[0]
    xml.chmod(0o644)
    text = xml.read_text()
    corner = int(re.search(r"<xmax>(\d+)", text)[1])
    xml.write_text(text.replace(f"<xmax>{corner}<", f"<xmax>{corner - 3}<", 1))
    second = objects()
    assert (first["x2"] - second["x2"]).sum() == 3
    assert "propose" in copied.run("dvc", "status").stdout, "what was made from the old table is out of date"

    name = re.search(r"<name>(\w+)", text)[1]
    xml.write_text(text.replace(f"<name>{name}<", "<name>renamed<", 1))
    assert "renamed" in set(objects()["class"])

    xml.write_text(text)
    lists = copied.folder / "own/ImageSets/Main"
    for path in lists.iterdir():
        path.chmod(0o644)
    shutil.copy(xml, xml.with_stem("extra"))
    picture = copied.folder / "own/JPEGImages" / f"{xml.stem}.jpg"
    shutil.copy(picture, picture.with_stem("extra"))
    listed = next(
        path for path in (lists / "train.txt", lists / "test.txt", lists / "val.txt") if xml.stem in path.read_text()
    )
    new_list = listed.read_text() + "extra\n"
    listed.unlink()
    listed.write_text(new_list)
    assert len(objects()) > len(first)


@pytest.mark.parametrize("root", ["./own", "../elsewhere", "own/"])
def test_a_data_root_may_be_written_in_any_way(copied, root):
    target = copied.folder / root
    shutil.copytree(copied.folder / "data/digits/VOCdevkit/DIGITS", target)
    copied.set_params({"data.root": root})
    assert stages_run(copied.run("dvc", "repro", "-s", "prepare").stdout) == {"prepare"}
