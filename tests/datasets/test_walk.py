"""The one rule of which files a folder means."""

import os
import unicodedata

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lib.datasets.walk import has_tool_part, is_of_a_tool, is_text, walk
from lib.stage.errors import InputError

NAMES = st.sampled_from(["a", "b", "Ünï 图", ".hidden", "._a", "__MACOSX", "@eaDir", "Thumbs.db", "lost+found"])
TREES = st.lists(st.tuples(st.lists(NAMES, max_size=3), NAMES, st.sampled_from(["file", "link", "circle"])), max_size=8)


@settings(max_examples=60, deadline=None)
@given(tree=TREES)
def test_case_105_every_usual_file_once_and_no_other(tree, tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    written = set()
    for number, (folders, name, kind) in enumerate(tree):
        folder = root.joinpath(*(f"{part}" for part in folders))
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            (folder / f"{name}{number}").touch()
            written.add((folder / f"{name}{number}").relative_to(root).as_posix())
        else:
            (folder / f"z{number}").symlink_to(root if kind == "circle" else folder)
    below = walk(root)
    expected = sorted(path for path in written if not has_tool_part(path))
    assert below.files == expected
    assert not any(has_tool_part(path) for path in below.folders - {"."})
    assert all(is_of_a_tool(path.rpartition("/")[2]) for path in below.skipped)


def test_a_linked_folder_is_entered_once(tmp_path):
    for name in ("a/1", "elsewhere/2"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "a/x").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a/y").symlink_to(tmp_path / "elsewhere")
    assert walk(tmp_path / "a").files == ["1", "x/2"]
    assert walk(tmp_path / "a", {os.path.realpath(tmp_path / "elsewhere")}).files == ["1"]


def test_case_106_all_names_that_are_no_text_at_once(tmp_path):
    for name in (b"Mu\xf1oz.jpg", b"Pe\xf1a/1.jpg"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    with pytest.raises(InputError) as error:
        walk(tmp_path)
    assert sorted(fault.where for fault in error.value.faults) == [r"'Mu\udcf1oz.jpg'", r"'Pe\udcf1a'"]
    assert str(error.value).isascii()
    assert is_text(unicodedata.normalize("NFD", "Muñoz"))


def test_a_folder_keeps_its_own_name_whatever_link_leads_to_it(tmp_path):
    """`train` tells a split; `all`, which comes first in the alphabet, is another name of it."""
    for name in ("train", "test", "elsewhere"):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / f"{name}.jpg").touch()
    (tmp_path / "set/elsewhere").rename(tmp_path / "elsewhere")
    (tmp_path / "set/all").symlink_to("train")
    (tmp_path / "set/a").symlink_to(tmp_path / "elsewhere")
    assert walk(tmp_path / "set").files == ["a/elsewhere.jpg", "test/test.jpg", "train/train.jpg"]


def test_what_does_not_count_may_have_any_name(tmp_path):
    (tmp_path / "1.jpg").touch()
    open(os.path.join(os.fsencode(tmp_path), b"._caf\xe9.jpg"), "w").close()
    result = walk(tmp_path)
    assert (result.files, len(result.skipped)) == (["1.jpg"], 1)
