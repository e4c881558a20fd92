"""A made-up history: what counts as an edit, and where its code is today."""

import subprocess

import pytest

from tools import edits
from tools.edits import Change

ALL = {"1", "2", "3", "4"}


def test_parse_keeps_the_order_and_both_paths_of_a_rename():
    log = "@2\n\nM\tlib/a.py\nR087\tlib/b.py\tlib/c d.py\n@1\n\nA\tlib/a.py\n"
    assert edits.parse(log) == [
        Change("2", "M", "lib/a.py", "lib/a.py"),
        Change("2", "R", "lib/b.py", "lib/c d.py"),
        Change("1", "A", "lib/a.py", "lib/a.py"),
    ]
    assert edits.parse("") == []


def test_modifications_alone_count_and_renames_are_followed_twice():
    history = edits.parse("@4\nM\tc\nD\tgone\n@3\nR090\tb\tc\n@2\nM\tb\nR100\ta\tb\nM\tgone\n@1\nM\ta\nA\tgone\n")
    assert edits.follow(history, ALL, {}, {"c"}) == [("c",), ("c",), (), ("c",)]
    assert edits.follow(history, {"1"}, {}, {"c"}) == [("c",)]
    assert edits.follow([], ALL, {}, {"c"}) == []


def test_two_files_that_change_places_in_one_commit():
    history = edits.parse("@2\nR100\ta\tb\nR100\tb\ta\n@1\nM\ta\n")
    assert edits.follow(history, ALL, {}, {"a", "b"}) == [("b",)]


def test_a_path_that_is_used_again_is_another_file():
    history = edits.parse("@4\nM\ta\n@3\nA\ta\n@2\nR100\ta\tb\n@1\nM\ta\n")
    assert edits.follow(history, ALL, {}, {"a", "b"}) == [("a",), ("b",)]


def test_an_edit_on_a_branch_listed_before_the_rename_is_found():
    history = edits.parse("@3\nM\ta\n@2\nR100\ta\tb\n@1\nA\ta\n")
    assert edits.follow(history, ALL, {}, {"b"}) == [("b",)]


def test_a_split_file_has_all_its_successors_from_the_commit_that_splits_it():
    """In 2 `a` becomes `b` and `c`, of which Git sees one; in 3 `c` moves on; `k` keeps a part in its place."""
    history = edits.parse("@4\nM\tb\nM\tk\n@3\nR090\tc\td\n@2\nR050\ta\tb\nA\tc\nM\tk\nA\tl\n@1\nM\ta\nM\tk\n")
    moved = {"a": ["b", "c"], "k": ["k", "l"]}
    paths = edits.follow(history, ALL, moved, {"b", "d", "k", "l"})
    assert paths == [("b",), ("k",), ("k",), ("b", "d"), ("k", "l")]
    assert edits.follow(history, ALL, {"a": ["b", "d"]}, {"b", "d", "k"})[-2:] == [("b", "d"), ("k",)]


def test_entries_without_effect():
    history = edits.parse("@1\nR050\ta\tb\nM\tk\n")
    assert edits.without_effect(history, {"a": ["b", "c"], "k": ["k"], "x": ["y"]}) == ["k", "x"]


def test_a_table_is_yaml_or_json(tmp_path):
    path = tmp_path / "moved.yaml"
    for text in ("lib/a.py: [lib/b.py, lib/c.py]\n", '{"lib/a.py": ["lib/b.py", "lib/c.py"]}'):
        path.write_text(text)
        assert edits.read_moved(path) == {"lib/a.py": ["lib/b.py", "lib/c.py"]}


@pytest.mark.parametrize("text", ["lib/a.py: lib/b.py", "- lib/a.py", "lib/a.py: []", ""])
def test_what_is_no_table_is_named(tmp_path, text):
    path = tmp_path / "moved.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="moved.yaml: is not a table of split files. Allowed: old path"):
        edits.read_moved(path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ValueError, match="moved.yaml: is not there"):
        edits.read_moved(tmp_path / "moved.yaml")


def test_git_itself(tmp_path):
    """Added, edited, then moved with a third of its lines changed: one edit, where the code is now."""
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    (tmp_path / "lib/old").mkdir(parents=True)
    (tmp_path / "lib/new").mkdir()
    old, new = tmp_path / "lib/old/a.py", tmp_path / "lib/new/b.py"
    old.write_text("".join(f"line_{i} = {i}\n" for i in range(9)))
    (tmp_path / "other.py").write_text("1\n")
    git("add", "-A")
    git("commit", "-qm", "1")
    old.write_text(old.read_text() + "last = 0\n")
    (tmp_path / "other.py").write_text("2\n")
    git("commit", "-qam", "2")
    text = old.read_text().replace("line_1", "one").replace("line_2", "two").replace("line_3", "three")
    git("mv", str(old), str(new))
    new.write_text(text)
    git("commit", "-qam", "3")
    history = edits.changes(tmp_path, ["lib/", "stages/"])
    assert [change.status for change in history] == ["R", "M", "A"]
    assert edits.follow(history, edits.commits(tmp_path, None, "HEAD"), {}, {"lib/new/b.py"}) == [("lib/new/b.py",)]
    assert edits.follow(history, edits.commits(tmp_path, "HEAD~1", "HEAD"), {}, {"lib/new/b.py"}) == []
    assert edits.follow(history, edits.commits(tmp_path, None, "HEAD~2"), {}, {"lib/new/b.py"}) == []
    with pytest.raises(ValueError, match="git rev-list in .*nowhere"):
        edits.commits(tmp_path, None, "nowhere")
