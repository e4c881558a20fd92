"""Files at a revision: a tracked out from DVC's cache, a file in Git, and clear words for what is not there."""

import subprocess

import pytest

from lib.report import revisions
from lib.stage.errors import InputError


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """Two revisions: `small` in Git and `folder` in DVC's cache say one, then two; `folder` then leaves the cache."""
    from dvc.repo import Repo

    root = tmp_path_factory.mktemp("repo")

    def git(*words):
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)

    git("init", "-b", "main")
    with Repo.init(str(root)) as dvc:
        for text in ("one", "two"):
            (root / "small").write_text(text)
            (root / "folder").mkdir(exist_ok=True)
            (root / "folder/a").write_text(text)
            dvc.add(str(root / "folder"))
            git("add", ".")
            git("commit", "-m", text)
            git("tag", text)
    return root


def test_files_of_another_revision(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(repo)
    assert revisions.fetch("one", "small", tmp_path / "1").read_text() == "one"
    assert (revisions.fetch("one", "folder", tmp_path / "1") / "a").read_text() == "one"
    assert (revisions.fetch("HEAD", "folder", tmp_path / "2") / "a").read_text() == "two"
    (repo / "small").write_text("three")
    assert revisions.fetch("workspace", "small", tmp_path).read_text() == "three"
    assert (repo / "folder/a").read_text() == "two"  # nothing was checked out


def test_what_is_not_there_is_said(repo, tmp_path, monkeypatch):
    monkeypatch.chdir(repo)
    with pytest.raises(InputError, match="small at nosuch: there is no such revision"):
        revisions.fetch("nosuch", "small", tmp_path)
    with pytest.raises(InputError, match="other at one: is not part of this revision"):
        revisions.fetch("one", "other", tmp_path)
    with pytest.raises(InputError, match="other at workspace: is not there. Run: dvc repro"):
        revisions.fetch("workspace", "other", tmp_path)
