"""Outputs are tried before the work: every way in which a file cannot be written, all at once, and nothing is made."""

import os
import shutil
from collections import namedtuple

import pytest

from lib.stage.errors import InputError
from lib.storage import outputs


def faults(paths, **words):
    with pytest.raises(InputError) as error:
        outputs.check(paths, "--out", **words)
    return [str(fault) for fault in error.value.faults]


def test_what_can_be_written_passes_and_nothing_is_made(tmp_path):
    (tmp_path / "old.json").write_text("{}")
    outputs.check([tmp_path / "new/deep/a.png", tmp_path / "new/b.json", tmp_path / "old.json"], "--out", disk=1)
    assert [path.name for path in tmp_path.iterdir()] == ["old.json"]


def test_a_file_where_a_folder_is_wanted_and_a_folder_where_a_file_is(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "out/a.png").mkdir(parents=True)
    problems = faults([tmp_path / "file/b.json", tmp_path / "file/sub/c.json", tmp_path / "out/a.png"])
    assert len(problems) == 2  # one for the file, however many would lie below it
    assert f"--out: {tmp_path}/out/a.png: is a folder. Allowed: a place for a file. Name another folder." in problems
    assert f"--out: {tmp_path}/file: is a file." in "".join(problems)


def test_a_broken_link_is_no_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    assert "link: is no folder" in faults([tmp_path / "link/a.png"])[0]


def test_an_output_that_is_an_input_too(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "same").symlink_to(tmp_path)
    problems = faults([tmp_path / "b.png", tmp_path / "same/a.png"], inputs=[tmp_path / "a.png", tmp_path / "c.png"])
    assert len(problems) == 1
    assert f"{tmp_path}/a.png: is read and would be written too" in problems[0]


def test_a_file_and_a_folder_of_one_name(tmp_path):
    problems = faults([tmp_path / "pictures/a.jpg.png", tmp_path / "pictures/a.jpg.png/b.jpg.png"])
    assert f"needs a folder where the file {tmp_path}/pictures/a.jpg.png will be" in problems[0]


def test_a_name_too_long(tmp_path):
    problems = faults([tmp_path / "short", tmp_path / ("n" * 250)])
    assert len(problems) == 1
    assert "no file nnn" in problems[0]


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no /proc")
def test_a_folder_in_which_nothing_can_be_made():
    assert "--out: /proc: no file a.json can be made there" in faults(["/proc/new/a.json"])[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    assert "(Permission denied)" in faults([tmp_path / "new/a.json"])[0]


def test_too_little_disk(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(5 * 2**20))
    outputs.check([tmp_path / "a"], "--out", disk=5 * 2**20)
    assert "needs at least 6.0 MiB more and 5.0 MiB are free" in faults([tmp_path / "a"], disk=6 * 2**20)[0]
    (tmp_path / "a").write_bytes(b"\0" * 2**20)  # replaced, so that its space is free then
    outputs.check([tmp_path / "a"], "--out", disk=6 * 2**20)
