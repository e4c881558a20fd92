"""A user's own images by file, folder and pattern."""

import pytest

from lib.datasets.image_files import find
from lib.stage.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.jpg", "a/b/2.PNG", "a/b/notes.txt", "c/3.jpeg", "c/[x].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_files_folders_and_patterns(folder):
    assert find([str(folder / "a")]) == (folder / "a", ["1.jpg", "b/2.PNG"])
    assert find([str(folder / "a"), str(folder / "a/1.jpg")])[1] == ["1.jpg", "b/2.PNG"]  # once each
    assert find([str(folder / "**/*.jp*g")])[1] == ["a/1.jpg", "c/3.jpeg", "c/[x].jpg"]
    assert find([str(folder / "c/[x].jpg")]) == (folder / "c", ["[x].jpg"])  # a name, not a pattern
    assert find([str(folder / "a/1.jpg"), str(folder / "c/3.jpeg")]) == (folder, ["a/1.jpg", "c/3.jpeg"])


def test_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder / "a")
    assert find(["1.jpg", "../c/3.jpeg", "../a/1.jpg"]) == (folder, ["a/1.jpg", "c/3.jpeg"])


def test_every_word_without_an_image_is_named(folder):
    with pytest.raises(InputError) as error:
        find([str(folder / "a"), str(folder / "none.jpg"), str(folder / "*.tif"), str(folder / "a/b/notes.txt")])
    assert [fault.where.split("/")[-1] for fault in error.value.faults] == ["none.jpg", "*.tif", "notes.txt"]
