"""A user's own images by file, folder and pattern."""

import os

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
    assert find([str(folder / "a")], folder / "out") == (folder / "a", ["1.jpg", "b/2.PNG"])
    assert find([str(folder / "a"), str(folder / "a/1.jpg")], folder / "out")[1] == ["1.jpg", "b/2.PNG"]  # once each
    assert find([str(folder / "**/*.jp*g")], folder / "out")[1] == ["a/1.jpg", "c/3.jpeg", "c/[x].jpg"]
    assert find([str(folder / "c/[x].jpg")], folder / "out") == (folder / "c", ["[x].jpg"])  # a name, not a pattern
    both = [str(folder / "a/1.jpg"), str(folder / "c/3.jpeg")]
    assert find(both, folder / "out") == (folder, ["a/1.jpg", "c/3.jpeg"])


def test_relative_paths(folder, monkeypatch):
    monkeypatch.chdir(folder / "a")
    assert find(["1.jpg", "../c/3.jpeg", "../a/1.jpg"], folder / "out") == (folder, ["a/1.jpg", "c/3.jpeg"])


def test_every_word_without_an_image_is_named(folder):
    with pytest.raises(InputError) as error:
        find([str(folder / name) for name in ("a", "none.jpg", "*.tif", "a/b/notes.txt")], folder / "out")
    assert [fault.where.split("/")[-1] for fault in error.value.faults] == ["none.jpg", "*.tif", "notes.txt"]
    assert [fault.problem for fault in error.value.faults] == [
        "is not there", "names no image", "names no image, but 1 .txt"]


def test_case_105_hidden_and_tool_files_are_no_images(folder, capsys):
    for name in ("a/._1.jpg", "a/__MACOSX/1.jpg", "a/.ipynb_checkpoints/1.jpg", "a/@eaDir/1.jpg", "a/Thumbs.db"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    for word in ("a", "a/**", "a/**/*.*", "*/"):
        ids = find([str(folder / word)], folder / "out")[1]
        assert {name.removeprefix("a/") for name in ids if not name.startswith("c/")} == {"1.jpg", "b/2.PNG"}
    assert "5 files and folders are skipped, hidden or of a tool" in capsys.readouterr().out
    assert find([str(folder / "a/._1.jpg")], folder / "out")[1] == ["._1.jpg"]  # named itself


@pytest.mark.parametrize("out", ["a/out", "a", "."])
@pytest.mark.parametrize("word", ["a", "a/**/*.*", "a/**"])
def test_case_105_what_predict_drew_is_no_input_the_second_time(folder, out, word):
    before = find([str(folder / word)], folder / out)
    (folder / out / "pictures").mkdir(parents=True)
    (folder / out / "pictures/1.jpg.png").touch()
    assert find([str(folder / word)], folder / out) == before
    with pytest.raises(InputError, match="not drawn by this command"):
        find([str(folder / out / "pictures/1.jpg.png")], folder / out)


def test_case_105_links_are_entered_once_and_circles_end(folder):
    (folder / "a/again").symlink_to(folder / "a")
    (folder / "a/other").symlink_to(folder / "c")
    assert find([str(folder / "a")], folder / "out")[1] == ["1.jpg", "b/2.PNG", "other/3.jpeg", "other/[x].jpg"]


def test_case_106_names_that_are_no_text_are_named(folder):
    for name in (b"c/Mu\xf1oz.jpg", b"c/Pe\xf1a/1.jpg"):
        path = os.path.join(os.fsencode(folder), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "w").close()
    word = os.fsdecode(os.path.join(os.fsencode(folder), b"c/Mu\xf1oz.jpg"))
    with pytest.raises(InputError) as error:
        find([str(folder / "c"), word], folder / "out")
    text = str(error.value).encode().decode()
    assert text.count("Mu\\udcf1oz.jpg': is not in UTF-8") == 2
    assert "Pe\\udcf1a" in text
    assert "convmv" in text


def test_formats_that_are_not_read_are_counted(folder):
    (folder / "heic").mkdir()
    (folder / "heic/1.HEIC").touch()
    with pytest.raises(InputError, match="names no image, but 1 .heic.*HEIC"):
        find([str(folder / "heic")], folder / "out")
