"""`make gpu` without a GPU: what it says where there is none, and what it writes of runs that are not really made."""

import sys
from pathlib import Path

import pytest

from lib.storage import tables
from tools import gpu

SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="0" skipped="3"/></testsuites>'


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["gpu", *words])
    return gpu.main()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "ROOT", tmp_path)
    monkeypatch.setattr(gpu, "RESULT", tmp_path / "results/benchmarks/gpu.json")
    monkeypatch.setattr(gpu, "SCRATCH", tmp_path / ".scratch/gpu")
    return tmp_path


class Copy:
    """The copy of the repository after a run of two stages."""

    def __init__(self, folder):
        self.folder = folder
        tables.write_json(folder / "results/cost/m1.json", {"seconds": 2.5})
        tables.write_json(folder / "results/metrics/faster.json", {"voc07_map": 0.25})
        tables.write_json(folder / "results/metrics/proposals/p1.json", {"recall_50": 0.5})

    def set_params(self, changes):
        self.changes = changes

    def environment(self):
        return {"PATH": ""}


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "gpu"])
def test_without_a_gpu_it_says_so_and_writes_nothing(folder, monkeypatch, capsys, device):
    monkeypatch.setattr(gpu, "gpus_here", list)
    assert call(monkeypatch, "--device", device) == 2
    message = capsys.readouterr().err
    assert f"--device: is '{device}', and torch {gpu.torch.__version__} finds no GPU. Run it where" in message
    assert not list(folder.iterdir())


def test_a_gpu_that_is_not_there_is_named_beside_those_that_are(folder, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "gpus_here", lambda: ["cuda", "cuda:0"])
    assert call(monkeypatch, "--device", "cuda:3") == 2
    assert "finds cuda, cuda:0. Allowed: cuda, cuda:0." in capsys.readouterr().err


@pytest.mark.parametrize("bad", ["", "tests", "faster", "pipeline"])
def test_what_it_writes(folder, monkeypatch, bad):
    commands = {}

    def run(self, name, words, environment=None, where=None):
        commands[name] = words, environment, where
        if name == "tests":
            (gpu.SCRATCH / "tests.xml").write_text(SUITE.format(40, int(bad == "tests")))
        elif name in ("faster", "sharing"):
            tables.write_json(Path(words[words.index("--out") + 1]), {"ratio": 0.5})
        if name == bad:
            self.failed.append(name)

    copies = []
    monkeypatch.setattr(gpu.Runner, "__call__", run)
    monkeypatch.setattr(gpu, "copy_repository", lambda folder: copies.append(Copy(folder)) or copies[0])
    assert call(monkeypatch, "--device", "cpu", "--rounds", "2") == (1 if bad else 0)
    assert list(commands) == ["tests", *gpu.BENCHMARKS, "pipeline"]
    assert commands["tests"][1]["TEST_DEVICE"] == "cpu"
    for name in gpu.BENCHMARKS:
        words = commands[name][0]
        assert words[words.index("--device") + 1] == "cpu"
        assert words[-1] == "2"
    assert commands["pipeline"] == (["dvc", "repro"], {"PATH": ""}, copies[0].folder)
    assert copies[0].changes["compute"] == {"device": "cpu"}
    assert not gpu.RESULT.exists()  # a CPU's figures are not taken for a GPU's
    result = tables.read_json(gpu.SCRATCH / "gpu.json")
    assert result["machine"]["device"] == "cpu"
    assert result["tests"] == {"tests": 40, "failures": int(bad == "tests"), "errors": 0, "skipped": 3}
    measured = {"faster": {"ratio": 0.5}, "sharing": {"ratio": 0.5}}
    assert result["benchmarks"] == {name: measured.get(name) for name in gpu.BENCHMARKS}
    assert result["pipeline"] == {"seconds": {"m1": 2.5}, "voc07_map": {"faster": 0.25}}
    assert result["failed"] == ([bad] if bad else [])


def test_a_command_that_fails_or_takes_too_long_is_named(folder):
    run = gpu.Runner(3)
    run("good", [sys.executable, "-c", ""])
    run("bad", [sys.executable, "-c", "raise SystemExit(3)"])
    run("long", [sys.executable, "-c", "import time; time.sleep(60)"])
    assert run.failed == ["bad", "long: out of time"]


def test_no_report_no_counts(tmp_path):
    assert gpu.counts(tmp_path / "tests.xml") == {}


def test_the_benchmarks_it_names_take_its_words():
    for name, words in gpu.BENCHMARKS.items():
        script = Path("benchmarks", f"{name}.py").read_text()
        for word in ("--device", "--out", *words):
            assert f'add_argument("{word}"' in script, f"{name} {word}"
