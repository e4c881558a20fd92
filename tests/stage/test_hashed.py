"""Which files DVC hashes: what `check` refuses is exactly what DVC's own hash of the folder leaves out."""

import os

import hypothesis.strategies as st
import pytest
from dvc.repo import Repo
from dvc_data.hashfile.build import build
from hypothesis import given, settings

from lib.stage import hashed
from lib.stage.errors import InputError


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty DVC repository, the working folder."""
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")
    Repo.init(no_scm=True).close()
    (tmp_path / "repo/.dvcignore").write_text("# a comment\n.scratch\n*.tmp\n")
    return tmp_path / "repo"


def write(*paths):
    for path in paths:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()


def refused(root, files, outs=()):
    with pytest.raises(InputError) as caught:
        hashed.check(root, files, outs)
    return caught.value.faults, str(caught.value)


@pytest.mark.parametrize("root", [".scratch/mine", "data/.scratch/mine"])
def test_case_101_a_line_of_dvcignore_that_hides_the_root(repository, root):
    write(f"{root}/1.xml", f"{root}/1.jpg")
    faults, message = refused(root, ["1.jpg", "1.xml"])
    assert [fault.where for fault in faults] == [".dvcignore:2:.scratch"]
    assert f"hides 2 files (1.jpg, ...) of {repository / root} from DVC" in message
    assert "Take the line out" in message


def test_case_101_every_line_at_once_and_no_file_that_is_not_read(repository):
    write("data/1.jpg", "data/1.tmp", "data/2.tmp", "data/.scratch/3.jpg", "data/deep/4.jpg", "data/deep/5.png")
    (repository / "data/deep/.dvcignore").write_text("*.jpg\n")
    hashed.check("data", ["1.jpg", "deep/5.png"])
    faults, message = refused("data", ["1.jpg", "1.tmp", "2.tmp", ".scratch/3.jpg", "deep/4.jpg", "deep/5.png"])
    assert [fault.where for fault in faults] == [
        ".dvcignore:3:*.tmp", ".dvcignore:2:.scratch", "data/deep/.dvcignore:1:*.jpg"
    ]  # fmt: skip
    assert "2 files (1.tmp, ...)" in message


def test_case_101_a_repository_of_another_inside_the_root(repository):
    write("data/theirs/1.jpg", "data/theirs/.dvc/config", "data/2.jpg", "data/git/3.jpg", "data/git/.git/config")
    faults, _ = refused("data", ["2.jpg", "git/3.jpg", "theirs/1.jpg"])
    assert [fault.where for fault in faults] == ["in sub_repo:theirs"]


def test_case_101_linked_folders_are_not_followed_and_linked_files_are(repository):
    write("far/a/1.jpg", "far/a/2.jpg", "far/3.jpg", "data/4.jpg")
    (repository / "data/images").symlink_to(repository / "far/a")
    (repository / "data/3.jpg").symlink_to(repository / "far/3.jpg")
    faults, message = refused("data", ["3.jpg", "4.jpg", "images/1.jpg", "images/2.jpg"])
    assert [fault.where for fault in faults] == [str(repository / "data/images")]
    assert "a link to a folder with 2 files (images/1.jpg, ...)" in message
    (repository / "link").symlink_to(repository / "far/a")
    hashed.check("link", ["1.jpg", "2.jpg"])


def test_case_101_outside_the_repository_nothing_is_hidden_but_links_are(repository):
    outside = repository.parent / "out"
    write(f"{outside}/.scratch/1.tmp", f"{repository.parent}/far/2.jpg")
    (outside / ".dvcignore").write_text("*\n")
    hashed.check(outside, [".scratch/1.tmp"])
    hashed.check("../out", [".scratch/1.tmp"])
    (outside / "a").symlink_to(repository.parent / "far")
    assert refused(outside, ["a/2.jpg"])[0][0].where == str(outside / "a")


@pytest.mark.parametrize("root", ["data", ".", "data/tables/..", "results"])
def test_case_113_outputs_in_the_root(repository, root):
    write("data/1.jpg", "results/1.jpg")
    outs = ["data/tables", "results/data_report.md"]
    faults, message = refused(root, ["1.jpg"], outs)
    assert {fault.kind for fault in faults} == {"output in the data"}
    assert f"data.root {root}: holds " in message
    hashed.check("data", ["1.jpg"], ["data/../database/tables", "data"])


NAMES = st.sampled_from(["a.jpg", "b.tmp", "c.xml"])
FOLDERS = st.lists(st.sampled_from(["x", "y", ".scratch", "link"]), max_size=3)
LINES = st.sampled_from(["*.xml", "x/", "data/y/", "!*.tmp", "a.*"])


@settings(max_examples=15, deadline=None)
@given(files=st.lists(st.tuples(FOLDERS, NAMES), min_size=1, max_size=6), lines=st.lists(LINES, max_size=2))
def test_case_101_refused_is_what_the_hash_of_dvc_leaves_out(files, lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("repo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = sorted({"/".join((*parts, name)) for parts, name in files})
        write(*(f"data/{path}" for path in paths))
        if (folder / "data/link").exists():
            (folder / "data/link").rename(folder / "far")
            (folder / "data/link").symlink_to(folder / "far")
        Repo.init(no_scm=True).close()
        (folder / ".dvcignore").write_text("\n".join([".scratch", "*.tmp", *lines]))
        with Repo() as repo:
            store = repo.cache.local
            _, _, tree = build(store, str(folder / "data"), store.fs, "md5", dry_run=True, ignore=repo.dvcignore)
            kept = {"/".join(key) for key, _, _ in tree} & set(paths)
        for path in paths:
            if path in kept:
                hashed.check("data", [path])
            else:
                refused("data", [path])
