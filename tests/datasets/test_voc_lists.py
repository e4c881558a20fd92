"""Split lists of VOC folders: which files are read, and what a line of them may look like."""

import unicodedata
from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from lib.datasets.listing import scan
from lib.datasets.lists import UNUSED
from lib.datasets.records import LENIENT
from lib.datasets.voc import read as read_voc
from tests.datasets.loading import lenient, refused, strict


def listed(root, **named):
    """The sets of each image by its file name, and the kinds and texts of faults and notes."""
    source = read_voc(scan(root), lists=named)
    sets_of = {record.image_id.rpartition("/")[2]: record.sets for record in source.records}
    faults = source.faults + [fault for record in source.records for fault in record.faults]
    return sets_of, faults, source.notes


def kinds(faults):
    return [fault.kind for fault in faults]


@pytest.fixture
def four(voc, obj):
    for name in "1234":
        voc.add(name, obj())
    return voc


def write(root, **texts):
    """Files by path; `__` is `/`."""
    for name, text in texts.items():
        path = root / f"{name.replace('__', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_lists_of_other_names_are_not_passed_over(four):
    four.lists(t1_train=["1", "2"], t1_test=["3"])
    seen, text = refused(four.root)
    assert seen == ["split lists not understood"]
    assert text == (
        "ImageSets: Main/t1_test.txt, Main/t1_train.txt: not understood as split lists. "
        "Allowed: ImageSets/Main/{train,val,trainval,test}.txt. Rename them, or name them in data.lists, for example "
        "{train: t1_train, val: null, test: t1_test}; data.splits: hash makes splits without lists."
    )
    assert lenient(four.root).repairs == {"split lists not understood": 1}
    assert strict(four.root, splits="hash").notes == []


@pytest.mark.parametrize("path", ["ImageSets/train", "ImageSets/Main/default", "ImageSets/Layout/val"])
@pytest.mark.parametrize("text", ["1\n2\n", ""])
def test_a_list_in_another_place_is_not_passed_over(four, path, text):
    write(four.root, **{path.replace("/", "__"): text})
    seen, message = refused(four.root)
    assert seen == ["split lists not understood"]
    assert f"ImageSets: {path.removeprefix('ImageSets/')}.txt: not understood" in message


def test_every_list_that_is_not_used_is_named(four):
    four.lists(train=["1"], val=["2"], test=["3", "4"], t1_train=["3"])
    write(four.root, ImageSets__Layout__train="1\n", ImageSets__Layout__val="1 1\n", ImageSets__train="4\n", readme="")
    _, faults, notes = listed(four.root)
    assert not faults
    assert kinds(notes) == [UNUSED]
    assert str(notes[0]) == "ImageSets: Layout/train.txt, Layout/val.txt, Main/t1_train.txt, train.txt: not used."


CLASS_LIST = "1  1\n2 -1\n3  0\n"


def test_class_lists_split_nothing_and_need_no_word(four):
    four.lists(train=["1", "2", "3"], test=["4"])
    write(four.root, ImageSets__Main__cat_train=CLASS_LIST, ImageSets__Action__jumping_train="1  2 -1\n2  1  1\n")
    sets_of, faults, notes = listed(four.root)
    assert sets_of == {"1.png": {"train"}, "2.png": {"train"}, "3.png": {"train"}, "4.png": {"test"}}
    assert faults == notes == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat_train", "1 1\n2 1\n"),
        ("cat_train", "1 -1\n2 5\n"),
        ("cat_train", "1\n2 -1\n"),
        ("cat_train", ""),
        ("cats", CLASS_LIST),
        ("_train", CLASS_LIST),
    ],
)
def test_what_only_resembles_a_class_list_is_named(four, name, text):
    four.lists(train=["1"], test=["4"])
    write(four.root, **{f"ImageSets__Main__{name}": text})
    assert [note.problem for note in listed(four.root)[2]] == [f"Main/{name}.txt: not used"]


def test_class_lists_alone_tell_splits_that_are_not_followed(four):
    write(four.root, ImageSets__Main__cat_train=CLASS_LIST, ImageSets__Main__cat_test="4 -1\n")
    seen, message = refused(four.root)
    assert seen == ["split lists not understood"]
    assert "Main/cat_test.txt, Main/cat_train.txt" in message
    assert "cat_train.txt is a class list" in refused(four.root, lists={"train": "cat_train"})[1]


def test_columns_after_the_id_are_not_read(four):
    write(four.root, ImageSets__Main__train=CLASS_LIST)
    assert listed(four.root)[:2] == ({"1.png": {"train"}, "2.png": {"train"}, "3.png": {"train"}, "4.png": set()}, [])


def test_more_words_that_name_an_image_come_before_the_first(voc, obj):
    for name in ("my", "my cat", "my cat 1"):
        voc.add(name, obj())
    for line, image in (("my cat 1 1", "my cat 1"), ("my cat 2", "my cat"), ("my dog", "my"), ("my\tcat", "my")):
        voc.lists(train=[line])
        sets_of, faults, _ = listed(voc.root)
        assert [name for name, sets in sets_of.items() if sets] == [f"{image}.png"], line
        assert not faults


@pytest.mark.parametrize("second", ["1", "1.png", "JPEGImages/1", "1 -1"])
def test_an_image_listed_twice(four, second):
    four.lists(train=["1", "2", "", second], test=["3", "4"])
    sets_of, (fault,), _ = listed(four.root)
    assert sets_of["1.png"] == {"train"}
    assert (fault.kind, fault.where) == ("image listed twice", "ImageSets/Main/train.txt, line 4")
    assert fault.problem.endswith("is listed in line 1 already")
    assert fault.kind in LENIENT
    assert len(lenient(four.root).images) == 4


def test_the_same_id_in_the_lists_of_two_years_is_no_repeat(tmp_path, voc_at, obj):
    for year in ("VOC2007", "VOC2012"):
        data = voc_at(tmp_path, f"{year}/Annotations", f"{year}/JPEGImages")
        data.add("1", obj())
        data.lists(train=["1"])
    assert listed(tmp_path)[1] == []


def test_a_list_is_for_the_images_beside_it(tmp_path, voc_at, obj):
    for year, name in (("VOC2007", "1"), ("VOC2012", "2")):
        data = voc_at(tmp_path, f"{year}/Annotations", f"{year}/JPEGImages")
        data.add(name, obj())
        data.lists(train=["1"])
    sets_of, (fault,), _ = listed(tmp_path)
    assert sets_of == {"1.png": {"train"}, "2.png": set()}
    assert fault.where == "VOC2012/ImageSets/Main/train.txt, line 1"


def test_folders_in_a_line_have_to_fit_in_any_normal_form(tmp_path, voc_at, obj):
    for folder in ("mäuse", "katzen"):
        voc_at(tmp_path, folder, folder).add("1", obj())
    for form in ("NFC", "NFD"):
        voc_at(tmp_path).lists(train=[unicodedata.normalize(form, "mäuse/1"), "hunde/1"])
        source = read_voc(scan(tmp_path))
        assert {record.image_id for record in source.records if record.sets} == {"mäuse/1.png"}
        assert kinds(source.faults) == ["listed image missing"]


def test_two_images_of_a_listed_name_are_one_fault(four, image_at):
    image_at(four.images / "1.jpg")
    four.lists(train=["1"])
    assert kinds(listed(four.root)[1]) == ["two images for one annotation"]


def test_a_listed_image_without_annotation(four):
    four.add("5", text="")
    four.add("6", text="")
    four.lists(train=["1", "5"], test=["3"])
    _, (fault,), _ = listed(four.root)
    assert str(fault) == (
        "JPEGImages/5.png: is listed, but has no annotation. Allowed: an XML file of its name. Add it, or take the "
        "image off the list; data.faults: lenient takes it as an image without objects."
    )
    dataset = lenient(four.root)
    assert dataset.repairs == {"listed image without annotation": 1}
    assert "image without annotation" not in kinds(dataset.notes)
    assert "JPEGImages/5.png" in set(dataset.images["image_id"])
    without_lists = strict(four.root, splits="hash")
    assert kinds(without_lists.notes) == ["image without annotation"] * 2


def test_named_lists_replace_those_called_after_sets(four):
    four.lists(train=["1", "2", "3", "4"], trainval=["1"], t1_train=["1", "2"], t1_test=["4"])
    sets_of, faults, notes = listed(four.root, train="t1_train", test="t1_test")
    assert sets_of == {"1.png": {"train"}, "2.png": {"train"}, "3.png": set(), "4.png": {"test"}}
    assert not faults
    assert [note.problem for note in notes] == ["Main/train.txt, Main/trainval.txt: not used"]


def test_a_val_that_is_not_named_is_taken_from_train_by_the_hash(voc, obj):
    images = [voc.add(str(number), obj()) for number in range(12)]
    voc.lists(train=map(str, range(8)), val=map(str, range(8, 12)), trainval=map(str, range(12)))
    dataset = strict(voc.root, lists={"train": "train", "test": "val"}, val_fraction=0.5)
    split_of = dict(zip(dataset.images["image_id"], dataset.images["split"], strict=True))
    assert {image for image, split in split_of.items() if split == "test"} == set(images[8:])
    # The same draw as of a set that has no other lists.
    voc.lists(test=map(str, range(8, 12)))
    for name in ("val", "trainval"):
        (voc.root / f"ImageSets/Main/{name}.txt").unlink()
    alone = strict(voc.root, val_fraction=0.5)
    assert split_of == dict(zip(alone.images["image_id"], alone.images["split"], strict=True))
    assert set(split_of.values()) == {"train", "val", "test"}


def test_an_image_in_two_named_lists(four):
    four.lists(a=["1", "2"], b=["2", "3"])
    seen, message = refused(four.root, load_as=lenient, lists={"train": "a", "test": "b"})
    assert seen == ["image in two splits"]
    assert message.startswith("JPEGImages/2.png: is listed in test and train.")


def test_a_named_list_that_is_not_there_stops_both_modes(four):
    four.lists(train=["1"], part=["4"])
    for mode in (strict, lenient):
        seen, message = refused(four.root, load_as=mode, lists={"train": "train", "test": "pat"})
        assert seen == ["named list not there"]
        assert message == "data.lists.test: there is no list pat. Allowed: part, train. Did you mean part?"


def test_a_missing_test_split_names_the_lists_that_are_not_used(four):
    four.lists(train=["1"], val=["2"], t1_test=["3"])
    seen, message = refused(four.root)
    assert seen == ["no test split"]
    assert "there is train, val, but no test" in message
    assert "ImageSets: Main/t1_test.txt: not used" in message


@dataclass(frozen=True)
class Spelling:
    """How a list is written: about the line, and about the file."""

    folder: str
    extension: str
    after: str
    form: str
    newline: str
    encoding: str
    around: str

    def line(self, name):
        return self.around + unicodedata.normalize(self.form, f"{self.folder}{name}{self.extension}") + self.after


SPELLINGS = st.builds(
    Spelling,
    folder=st.sampled_from(["", "JPEGImages/", "JPEGImages\\", "./", "set/JPEGImages/", "gone/"]),
    extension=st.sampled_from(["", ".png", ".PNG", ".jpg", ".xml"]),
    after=st.sampled_from(["", " ", "  1", " -1", "\t0", " 1 1", ",1"]),
    form=st.sampled_from(["NFC", "NFD"]),
    newline=st.sampled_from(["\n", "\r\n", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]),
    around=st.sampled_from(["", "  ", "\t"]),
)
NAMES = ("000005", "a.b", "my cat", "mäuse", "x-1_2", "7")


@given(SPELLINGS, st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["train", "val", "test"]), min_size=1))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_list_in_any_spelling_is_followed_or_named(tmp_path, voc_at, obj, spelling, split_of):
    data = voc_at(tmp_path / "set")
    if not data.images.exists():
        for name in NAMES:
            data.add(name, obj())
    folder = data.root / "ImageSets" / "Main"
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        lines = [spelling.line(name) for name, its_split in split_of.items() if its_split == split]
        (folder / f"{split}.txt").write_bytes(spelling.newline.join(lines).encode(spelling.encoding, "replace"))
    sets_of, faults, _ = listed(data.root)
    missing = {name for name in NAMES if sets_of[f"{name}.png"] != ({split_of[name]} if name in split_of else set())}
    # Never another image, never another set: what is not followed is one fault for each line.
    no_text = {"mäuse"} & set(split_of) if spelling.encoding == "latin-1" and spelling.form == "NFC" else set()
    assert kinds(faults).count("name is no text") == len(no_text)
    assert kinds(faults).count("listed image missing") == len(missing - no_text)
    assert all(not sets_of[f"{name}.png"] for name in missing)
    if spelling.folder == "gone/":
        assert missing == set(split_of)
    strange = spelling.folder in ("set/JPEGImages/", "gone/") or spelling.extension == ".xml" or spelling.after == ",1"
    if not strange and spelling.encoding != "latin-1":
        assert not missing


@given(st.lists(st.sampled_from(["1", "2", "3", "9"]), max_size=6), st.lists(st.sampled_from("123"), max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_faults_are_as_many_as_the_lines_that_repeat_or_miss(tmp_path, voc_at, obj, train, test):
    data = voc_at(tmp_path / "set")
    if not data.images.exists():
        for name in "123":
            data.add(name, obj())
    data.lists(train=train, test=test)
    sets_of, faults, _ = listed(data.root)
    repeats = sum(len(known) - len(set(known)) for known in ([n for n in train if n != "9"], test))
    assert sorted(kinds(faults)) == ["image listed twice"] * repeats + ["listed image missing"] * train.count("9")
    both = {"train": train, "test": test}
    assert sets_of == {f"{n}.png": {split for split, names in both.items() if n in names} for n in "123"}


@pytest.mark.parametrize("mode", [strict, lenient])
def test_case_106_a_list_in_another_encoding(voc, obj, mode):
    voc.add("Muñoz", obj())
    voc.add("1", obj())
    voc.lists(train=["1"], test=[])
    path = voc.root / "ImageSets/Main/test.txt"
    path.write_bytes("1x\nMuñoz\n".encode("latin-1"))
    seen, message = refused(voc.root, load_as=mode)
    assert "name is no text" in seen
    assert r"ImageSets/Main/test.txt, line 2: 'Mu\udcf1oz' is not in UTF-8. Allowed: a list in UTF-8." in message
    assert message.isascii()
