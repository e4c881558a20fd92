"""A stage's life without DVC around it: what it may see, what it costs, how it ends and goes on."""

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from lib.stage import pipeline, process, run
from lib.stage.errors import InputError
from lib.stage.params import Compute

HERE = Compute(device="cpu", workers=0, launcher="loky", memory_gib=1.0)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/tables").mkdir(parents=True)
    for name in ("data/m0.pt", "data/m2.pt", "data/tables/images.parquet"):
        (tmp_path / name).write_text(name)
    return tmp_path


def life(monkeypatch, params=None, **changes):
    """A new process's view of one stage: the lock of an earlier one in this process is not held against it."""
    monkeypatch.setattr(process, "Lock", lambda path, name: None)
    values = {
        "name": "detect@fast", "script": "stages.detect", "words": ("fast",), "params": ("seed",),
        "roles": {"model": "data/m0.pt", "scores": "data/other.pt", "makes": "data/found.parquet"},
        "deps": ("data/m0.pt", "data/tables", "data/m2.pt", "data/gone.pt"), "persist": (),
        "outs": ("data/found.parquet", "results/cost/detect@fast.json"),
    }
    entry = pipeline.Entry(**{**values, **changes})
    return run.Life(entry, params or {"seed": 3}, HERE, "nowhere")


def test_only_what_is_declared_can_be_seen(folder, monkeypatch):
    stage = life(monkeypatch, deps=("data/m0.pt", "data/tables", "data/m2.pt"))
    assert stage.item == "fast"
    assert stage.dep("data/tables/images.parquet").read_text() == "data/tables/images.parquet"
    assert stage.input("model") == Path("data/m0.pt")
    assert stage.out(stage.role("makes")).name == "found.parquet"
    for broken in (lambda: stage.dep("data/other.pt"), lambda: stage.input("scores"), lambda: stage.input("boxes"),
                   lambda: stage.role("boxes"), lambda: stage.dep("data/tables2"), lambda: stage.out("data/x"),
                   lambda: stage.params["splits"], lambda: stage.previous("data/found.parquet")):
        with pytest.raises(LookupError, match=r"detect@fast"):
            broken()


def test_a_declared_input_that_is_missing_says_what_to_run(folder, monkeypatch):
    with pytest.raises(InputError, match=r"data/gone.pt: is not there. Run: dvc repro"):
        life(monkeypatch).dep("data/gone.pt")


def test_case_47_the_disk_is_asked_before_the_work(folder, monkeypatch, capsys):
    """VOC 2007, fc7 in half precision, 5,011 images of 2,000 regions: 82 GB = 76.5 GiB, on a disk with 40 free."""
    need, stage = 5011 * 2000 * 4096 * 2, life(monkeypatch)
    assert round(need / 1e9) == 82
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 40 * 2**30))
    with pytest.raises(InputError, match=r"needs 76.5 GiB of disk and 40.0 GiB are free.*Free some space, or lower"):
        stage.announce("5011 images", disk=need)
    assert "disk 78,297 MiB" in capsys.readouterr().out, "said before it is refused"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, need))
    stage.announce("5011 images", disk=need, memory=2**30)
    assert "memory 1,024 MiB" in capsys.readouterr().out


def test_a_disk_that_fills_up_during_the_work_is_an_error_with_a_remedy(folder, monkeypatch, capsys):
    entry = life(monkeypatch).entry
    monkeypatch.setenv("DVC_STAGE", entry.name)
    monkeypatch.setattr(run, "_entry", lambda: entry)
    monkeypatch.setattr(run, "check_once", lambda *arguments: None)
    monkeypatch.setattr(run.params_file, "load", dict)
    checked = {"compute": HERE, "data.root": "x", "seed": 3}
    monkeypatch.setattr(run.params_file, "validate", lambda values, keys: checked.copy())
    monkeypatch.setattr(run.process, "follow_parent", lambda: None)

    def fills(stage):
        (stage.scratch / "half").write_text("done")
        Path("/dev/full").write_text("x")

    with pytest.raises(SystemExit, match="1"):
        run.stage(fills, {}, dict)
    said = capsys.readouterr().err
    assert said.startswith("ERROR: detect@fast: no space is left on the disk. Free some"), said
    assert list(Path(".scratch").rglob("half")), "what was done stays"

    with pytest.raises(OSError, match="other"):
        run.stage(lambda stage: (_ for _ in ()).throw(OSError(5, "other")), {}, dict)


def test_publishing_moves_everything_or_nothing(folder, monkeypatch):
    stage = life(monkeypatch)
    with pytest.raises(LookupError, match=r"did not write \['data/found.parquet'\]"):
        stage.publish()
    assert not (folder / "results").exists()
    (folder / "data/found.parquet").write_text("old")
    twin = folder / "cache"
    twin.hardlink_to(folder / "data/found.parquet")
    for _ in stage.progress("abc", 3, "image"):
        assert (folder / "data/found.parquet").read_text() == "old", "nothing half made lies in an output"
    stage.out("data/found.parquet").write_text("new")
    stage.publish()
    assert (folder / "data/found.parquet").read_text() == "new"
    assert twin.read_text() == "old", "a hard-linked cache is not written through"
    cost = json.loads((folder / "results/cost/detect@fast.json").read_text())
    assert set(cost) == {"seconds", "images_per_second", "peak_memory_mib"}
    assert cost["images_per_second"] > 0
    assert not stage.scratch.exists()


def test_the_same_work_goes_on_and_other_work_starts_afresh(folder, monkeypatch, capsys):
    first = life(monkeypatch)
    (first.scratch / "piece").touch()
    again = life(monkeypatch)
    assert again.resumed
    assert (again.scratch / "piece").exists()
    again.announce("x")
    assert "resuming an earlier run" in capsys.readouterr().out
    other = life(monkeypatch, {"seed": 4})
    assert not other.resumed
    assert not again.scratch.exists(), "pieces of other settings are gone"
    (folder / "data/m0.pt").write_text("another model, of another size")
    changed = life(monkeypatch, {"seed": 4})
    assert changed.scratch != other.scratch


def test_a_resumed_run_counts_the_time_of_the_killed_one(folder, monkeypatch):
    first = life(monkeypatch)
    (first.scratch / "spent.json").write_text('{"seconds": 100.0, "items": 50}')
    again = life(monkeypatch)
    list(again.progress("ab", 52, "image", 50))
    again.out("data/found.parquet").touch()
    again.publish()
    cost = json.loads((folder / "results/cost/detect@fast.json").read_text())
    assert 100 <= cost["seconds"] < 110
    assert cost["images_per_second"] == pytest.approx(52 / cost["seconds"], rel=0.01)


def test_case_112_a_note_of_time_that_is_cut_off_ends_no_run(folder, monkeypatch):
    first = life(monkeypatch)
    (first.scratch / "spent.json").write_text('{"seconds": 10')
    assert life(monkeypatch).resumed
