"""The data report: its figures on a set small enough to count by hand, and its warnings."""

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from lib.datasets.cautions import cautions
from lib.datasets.check import load
from lib.datasets.report import markdown, table
from lib.datasets.settings import DataSettings

SHARED = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture
def small(voc, obj):
    voc.add("1", obj("cat", (1, 1, 10, 10)), obj("cat", (1, 1, 40, 10)), obj("dog", extra="<difficult>1</difficult>"))
    voc.add("2", obj("dog", (90, 1, 190, 50)))
    voc.add("3", text="")
    voc.lists(train=["1"], val=["2"], test=["3"])
    return load(voc.root, DataSettings(faults="lenient"))


def rows(text, heading):
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_figures(small):
    text = markdown(small)
    assert text.startswith("# Data report\n\n3 images, 4 objects of 2 classes, read as voc.")
    assert rows(text, "Splits") == [
        ["train", "1", "0", "3", "1", "0", "0"],
        ["val", "1", "0", "1", "0", "0", "0"],
        ["test", "1", "1", "0", "0", "0", "0"],
    ]
    assert rows(text, "Objects by class") == [["cat", "2", "0", "0", "2", "1"], ["dog", "1", "1", "0", "2", "2"]]
    assert rows(text, "Image sizes") == [["100x80", "3"]]
    # Two cats of 10x10 and 40x10: sides 10 and 20, aspects 1 and 4.
    assert rows(text, "Box sizes")[:2] == [
        ["cat", "size", "10", "11", "15", "19", "20"],
        ["cat", "aspect", "1", "1.3", "2.5", "3.7", "4"],
    ]
    assert (
        "- **box over the border** (clipped): 1\n  - Annotations/2.xml, object 0 (dog): the box is [89, 0, 190, 50]"
        in text
    )
    handling = "taken as an image without objects"
    assert f"- **listed image without annotation** ({handling}): 1\n  - JPEGImages/3.png" in text
    assert "min xmin 1, min ymin 1, max xmax - width 90, max ymax - height -30" in text


def test_same_data_same_report(small, voc):
    again = load(voc.root, DataSettings(faults="lenient"), workers=3)
    assert markdown(again) == markdown(small)


def test_examples_are_few(voc, obj):
    for number in range(5):
        voc.add(str(number), obj(), obj(corners=(1, 1, 1, 1)))
    text = markdown(load(voc.root, DataSettings(faults="lenient")), examples=2)
    assert "- **box under min_box_size**: 5\n" in text
    assert text.count("min_box_size is 2\n") == 2
    assert "  - and 3 more" in text


def test_bar_in_a_name_does_not_break_a_table():
    assert table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"


def warned(voc, few_objects=0, **settings):
    return " ".join(cautions(load(voc.root, DataSettings(**settings)), few_objects))


def test_a_clean_set_has_none(voc, obj):
    for number in range(3):
        voc.add(str(number), obj(corners=(1, 1, 100, 80)))
    voc.lists(train=["0"], val=["1"], test=["2"])
    assert warned(voc) == ""


@pytest.mark.parametrize(
    ("corners", "origin", "message"),
    [
        ((0, 0, 90, 70), 1, "Data look 0-based (the smallest corner is 0 and the largest -10 from the image's side)"),
        ((0, 0, 90, 70), 0, ""),
        ((0, 3, 100, 70), 1, "Corners of 0 and of the image's full side both occur"),
        ((0, 3, 100, 70), "half-open", ""),
        ((1, 1, 100, 80), "half-open", "Data look 1-based"),
        ((1, 1, 100, 80), 1, ""),
    ],
)
def test_case_2_origin(voc, obj, corners, origin, message):
    voc.add("0", obj(corners=corners))
    voc.add("1", obj(corners=(40, 40, 50, 50)))
    voc.add("2", obj(corners=(40, 40, 50, 50)))
    voc.lists(train=["0"], val=["1"], test=["2"])
    text = warned(voc, box_origin=origin)
    assert message in text if message else text == ""


def test_case_2_full_side_under_origin_0_is_a_fault_and_flagged(voc, obj):
    voc.add("0", obj(corners=(0, 0, 100, 80)))
    assert "Set box_origin: half-open." in warned(voc, box_origin=0, faults="lenient")


def test_same_file_in_two_splits(voc, obj):
    first, second = voc.add("0", obj()), voc.add("1", obj())
    (voc.root / second).write_bytes((voc.root / first).read_bytes())
    voc.add("2", obj())
    voc.lists(train=["0"], val=["2"], test=["1"])
    assert (
        f"1 images stand in two splits as files of equal content, so figures will flatter: {first} and {second}."
        in warned(voc)
    )
    voc.lists(train=["0", "1"], val=["2"], test=[])
    text = warned(voc)
    assert "1 images occur several times in one split" in text
    assert "in two splits" not in text
    assert "Split test has no images." in text


def test_classes_that_differ_in_capitals_alone(voc, obj):
    voc.add("0", obj("RBC"), obj("rbc", (1, 1, 9, 9)), obj("WBC"))
    voc.add("1", obj("RBC"))
    voc.lists(train=["0"], test=["1"])
    assert "Classes RBC, rbc differ in capitals alone." in warned(voc)


def test_rare_and_absent_classes(voc, obj):
    voc.add("0", obj("cat"), obj("dog", (1, 1, 9, 9)), obj("dog"), obj("dog"))
    voc.add("1", obj("dog"))
    voc.add("2")
    voc.lists(train=["0"], val=["1"], test=["2"])
    text = warned(voc, few_objects=2)
    assert "Split val has no objects of cat." in text
    assert "Split test has no objects." in text
    assert "Few objects for training, fewer than 2: cat (1)." in text
    assert "1 objects repeat another of the same class and box." in text


@pytest.mark.skipif(not (SHARED / "bccd").is_dir(), reason="no ../shared/data/bccd")
def test_bccd():
    text = markdown(load(SHARED / "bccd", DataSettings(), workers=2))
    assert "364 images, 4886 objects of 3 classes" in text
    assert ["all", rows(text, "Objects by class")[0][0]] == ["all", "Platelets"]
    assert sum(int(row[4]) for row in rows(text, "Objects by class")) == 4886


def command_of_the_docs(after):
    """The indented command in docs/usage.md that follows a text."""
    lines = Path("docs/usage.md").read_text().split(after)[1].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("    "))
    return "\n".join(line[4:] for line in itertools.takewhile(lambda line: line.startswith("    "), lines[start:]))


@pytest.mark.parametrize("extension", [".tif", ".png"])
def test_case_103_twelve_bits_in_sixteen_are_told_and_the_remedy_works(voc, obj, extension):
    names = [voc.add(str(number), obj(corners=(1, 1, 100, 80)), extension=extension) for number in range(4)]
    voc.lists(train=["0"], val=["1", "2"], test=["3"])
    assert warned(voc) == ""
    for name, brightest in zip(names, (4095, 3000, 63 * 256, 64 * 256), strict=True):
        deep = np.random.default_rng(brightest).integers(0, brightest, (80, 100, 3), dtype=np.uint16)
        deep[0, 0] = brightest
        cv2.imwrite(str(voc.root / name), deep)
    text = warned(voc)
    assert f"3 of 4 images (75%) use less than a quarter of the range of values, first {names[0]}" in text
    upper = {".tif": 16, ".png": 15}[extension]  # 4095 / 256, which one decoder rounds and the other cuts
    assert f"first {names[0]}: its brightest value is {upper} of 255" in text
    before = cv2.imread(str(voc.root / names[0]), cv2.IMREAD_UNCHANGED)
    command = command_of_the_docs("Scale such files up").replace("python", sys.executable, 1)
    subprocess.run(["bash", "-c", command.replace("FILES...", names[0])], cwd=voc.root, check=True)
    np.testing.assert_array_equal(cv2.imread(str(voc.root / names[0]), cv2.IMREAD_UNCHANGED), before * 16)
    assert "2 of 4 images (50%) use" in warned(voc)


def test_case_113_an_empty_list_is_told_from_a_missing_one(voc, obj):
    voc.add("0", obj())
    voc.add("1", obj())
    voc.lists(train=["0"], val=["1"], test=[])
    text = warned(voc)
    assert "Split test has no images. Its list is there, but no image that it names can be used: fill it." in text
    assert "Where its list is missing" not in text
    (voc.root / "ImageSets/Main/test.txt").unlink()
    (voc.root / "ImageSets/Main/val.txt").unlink()
    assert "Split val has no images. Where its list is missing" in warned(voc, test_from="hash", val_fraction=0)


def test_case_113_images_without_annotation_are_counted_and_named(voc, obj):
    names = [voc.add(str(number), obj(corners=(1, 1, 100, 80)), text="" if number < 4 else None) for number in range(6)]
    text = warned(voc, splits="hash")
    assert f"4 of 6 images have no annotation and count as images without objects: {', '.join(names[:3])}, ..." in text
    (voc.root / names[3]).unlink()
    assert f"3 of 5 images have no annotation and count as images without objects: {', '.join(names[:3])}. If" in (
        warned(voc, splits="hash")
    )


def test_case_105_what_was_skipped_is_in_the_report(voc, obj):
    voc.add("0", obj(corners=(1, 1, 100, 80)))
    assert "skipped" not in markdown(load(voc.root, DataSettings()))
    (voc.images / "._0.png").write_bytes(b"x")
    (voc.root / "__MACOSX").mkdir()
    text = markdown(load(voc.root, DataSettings()))
    assert "- **hidden or of a tool**: 2\n  - JPEGImages/._0.png: is skipped\n  - __MACOSX: is skipped" in text
