"""The names in data.lists: which file each means, and what is said where it means none or several."""

import pytest

from lib.datasets.lists import label, named_lists

MAIN, SECOND = "VOC2007/ImageSets/Main", "VOC2012/ImageSets/Main"
HOME_OF = {
    f"{MAIN}/train.txt": "VOC2007",
    f"{MAIN}/t1_train.txt": "VOC2007",
    f"{SECOND}/train.txt": "VOC2012",
    "VOC2007/ImageSets/Layout/train.txt": "VOC2007",
    "VOC2007/ImageSets/Layout/pose.txt": "VOC2007",
    "VOC2007/ImageSets/Segmentation/pose.txt": "VOC2007",
    "VOC2012/ImageSets/held.out.txt": "VOC2012",
}
CLASS_LIST = {f"{MAIN}/cat_train.txt": "is a class list"}


def resolved(**named):
    faults = []
    return named_lists(named, HOME_OF, CLASS_LIST, faults), faults


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("train", [f"{MAIN}/train.txt", f"{SECOND}/train.txt"]),
        ("t1_train", [f"{MAIN}/t1_train.txt"]),
        ("VOC2012/ImageSets/Main/train", [f"{SECOND}/train.txt"]),
        ("Layout/train", ["VOC2007/ImageSets/Layout/train.txt"]),
        ("Segmentation/pose", ["VOC2007/ImageSets/Segmentation/pose.txt"]),
        ("held.out", ["VOC2012/ImageSets/held.out.txt"]),
        ("ImageSets/held.out", ["VOC2012/ImageSets/held.out.txt"]),
    ],
)
def test_a_name_is_the_end_of_a_path_and_main_comes_first(name, files):
    assert resolved(val=name) == (dict.fromkeys(files, "val"), [])


@pytest.mark.parametrize("path", sorted(HOME_OF))
def test_the_label_of_a_list_means_it(path):
    set_of, faults = resolved(test=label(path))
    assert set_of[path] == "test"
    assert not faults


def test_labels():
    assert [label(path) for path in HOME_OF] == [
        "train", "t1_train", "train", "Layout/train", "Layout/pose", "Segmentation/pose", "ImageSets/held.out",
    ]  # fmt: skip
    assert label("valid/_annotations.coco.json") == "valid/_annotations.coco"
    assert label("ImageSets/Main/part/a.txt") == "part/a"


def test_a_name_that_no_list_has_tells_those_that_are_there():
    set_of, (fault,) = resolved(train="t1_trian", test="train")
    assert set(set_of.values()) == {"test"}
    assert fault.kind == "named list not there"
    assert str(fault) == (
        "data.lists.train: there is no list t1_trian. Allowed: ImageSets/held.out, Layout/pose, Layout/train, "
        "Segmentation/pose, t1_train, train. Did you mean t1_train?"
    )
    part_of_a_word = resolved(train="rain")[1]
    assert [fault.kind for fault in part_of_a_word] == ["named list not there"]


def test_a_file_that_is_no_list_is_told_as_such():
    _, (fault,) = resolved(train="cat_train")
    assert f"there is no list cat_train: {MAIN}/cat_train.txt is a class list" in fault.problem


def test_no_list_at_all():
    faults = []
    assert named_lists({"train": "a"}, {}, {}, faults) == {}
    assert (faults[0].kind, faults[0].allowed) == ("named list not there", "none is there")


def test_two_files_of_one_home_or_one_file_for_two_sets():
    _, (several,) = resolved(train="pose")
    assert several.kind == "named list unclear"
    assert "Layout/pose.txt or VOC2007/ImageSets/Segmentation/pose.txt" in several.problem
    _, (shared,) = resolved(train="t1_train", test="Main/t1_train")
    assert (shared.kind, shared.where) == ("named list unclear", "data.lists.test")
    assert shared.problem == f"Main/t1_train is {MAIN}/t1_train.txt, which is named for train too"
