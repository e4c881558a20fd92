"""A made-up pipeline, cut (10 s) -> learn (100 s) -> score (no record), and its costs by hand."""

import json
import subprocess
import sys

import pytest

from lib.stage.pipeline import Entry
from tools import rerun_cost


def entry(name, deps, outs):
    return Entry(name, "stages.x", (), (), tuple(deps), tuple(outs), ())


STAGES = {
    "cut": entry("cut", ["raw", "lib/run.py", "lib/cut"], ["data/cut"]),
    "learn": entry("learn", ["data/cut/train", "lib/run.py", "lib/net.py"], ["data/net"]),
    "score": entry("score", ["data/net", "lib/run.py", "lib/score.py"], ["results/score.json"]),
}
SECONDS = {"cut": 10.0, "learn": 100.0}
LINES = {"lib/run.py": 50, "lib/cut/a.py": 30, "lib/net.py": 90, "lib/score.py": 9, "lib/free.py": 0}


def measured(edited):
    return rerun_cost.measure(edited, LINES, STAGES, SECONDS)


@pytest.mark.parametrize(("path", "cost"), [
    ("lib/cut/a.py", [10.0, 110.0]), ("lib/net.py", [100.0, 100.0]), ("lib/run.py", [110.0, 110.0]),
    ("lib/score.py", [0.0, 0.0]), ("lib/free.py", [0.0, 0.0]),
])
def test_cost_of_one_file(path, cost):
    figures = measured([(path,)])
    assert figures["dearest"] == {path: cost}
    assert figures["mean_over_files"] == figures["mean_over_edits"] == cost
    assert figures["run_seconds"] == 110.0
    assert figures["unmeasured"] == ["score"]


def test_means_over_edits_files_and_packages():
    """cut/a twice, net, run, free; one edit of code that is gone."""
    figures = measured([("lib/cut/a.py",), ("lib/cut/a.py",), ("lib/net.py",), ("lib/run.py",), ("lib/free.py",), ()])
    assert (figures["edits"], figures["edits_of_gone"], figures["files"]) == (5, 1, 4)
    assert figures["mean_over_edits"] == pytest.approx([(10 + 10 + 100 + 110 + 0) / 5, (110 + 110 + 100 + 110 + 0) / 5])
    assert figures["mean_over_files"] == pytest.approx([(10 + 100 + 110 + 0) / 4, (110 + 100 + 110 + 0) / 4])
    assert figures["files_of_some"] == 2
    assert figures["mean_over_files_of_some"] == pytest.approx([55.0, 105.0])
    assert figures["packages"] == {
        "lib": {"files": 3, "mean": pytest.approx([70.0, 70.0])}, "lib/cut": {"files": 1, "mean": [10.0, 110.0]},
    }
    assert list(figures["dearest"]) == ["lib/run.py", "lib/net.py", "lib/cut/a.py", "lib/free.py"]
    assert figures["unmeasured_of_a_file"] == 1 / 4


def test_an_edit_of_a_split_file_is_shared_out_by_lines():
    """30 lines at 10 s and 90 at 100 s."""
    figures = measured([("lib/cut/a.py", "lib/net.py")])
    assert figures["mean_over_edits"] == pytest.approx([0.25 * 10 + 0.75 * 100, 0.25 * 110 + 0.75 * 100])
    assert figures["mean_over_files"] == [55.0, 105.0]
    assert rerun_cost.shares(["lib/free.py", "lib/score.py"], LINES) == {"lib/free.py": 0.1, "lib/score.py": 0.9}


def test_a_folder_is_no_prefix_of_a_name():
    stages = {"cut": entry("cut", ["lib/cut"], [])}
    assert rerun_cost.listing("lib/cut/deep/a.py", stages) == {"cut"}
    assert rerun_cost.listing("lib/cutter.py", stages) == set()


def test_other_data_sets_are_no_part_of_the_default_run():
    used = entry("data/a/dvc.yaml:a", ["lib/a.py"], ["raw"])
    other = entry("data/b/dvc.yaml:b", ["lib/b.py"], ["raw_b"])
    assert rerun_cost.default_run(STAGES | {used.name: used, other.name: other}) == STAGES | {used.name: used}


def test_code_deps_are_files_and_folders_of_ours():
    odd = {"none": entry("none", ["data/lib", "library.py"], []), "all": entry("all", ["lib", "stages/x.py"], [])}
    assert rerun_cost.code_deps(STAGES | odd) == {"mean": 8 / 5, "most": 2}


def test_no_edits_at_all():
    figures = measured([()])
    assert figures["mean_over_files"] is None
    assert rerun_cost.report(figures) == "no edit of code that is still there, 1 of code that is gone"


DVC_YAML = """
stages:
  cut:
    cmd: python -m stages.cut
    deps: [lib/cut.py]
    outs: [cut.txt]
  learn:
    cmd: python -m stages.learn
    deps: [cut.txt, lib/net]
    outs: [net.txt]
  score:
    cmd: python -m stages.score
    deps: [net.txt, lib/score.py]
    outs: [score.txt]
"""


@pytest.fixture
def checkout(tmp_path):
    """Edits of lib/cut.py and of lib/all.py, which then becomes lib/net/one.py (8 lines) and lib/score.py (2)."""
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        git("add", "-A")
        git("commit", "-qm", "a step")

    first = "".join(f"network_{i} = {i}\n" for i in range(8))
    git("init", "-q")
    commit({
        "dvc.yaml": DVC_YAML, ".dvc/config": "", ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        "lib/cut.py": "1\n", "lib/all.py": first,
        "results/cost/cut.json": '{"seconds": 10.0}', "results/cost/learn.json": '{"seconds": 100.0}',
    })
    commit({"lib/cut.py": "2\n", "lib/all.py": f"{first}score = 1\nscore = 2\n"})
    (tmp_path / "lib/all.py").unlink()
    commit({"lib/net/one.py": first, "lib/score.py": "score = 1\nscore = 2\n"})
    return tmp_path


def run(root, monkeypatch, *words):
    target = root / "figures.json"
    monkeypatch.setattr(sys, "argv", ["rerun_cost", "--root", str(root), "--json", str(target), *words])
    assert rerun_cost.main() == 0
    return json.loads(target.read_text())


def test_a_checkout(checkout, monkeypatch, capsys):
    figures = run(checkout, monkeypatch)
    assert figures["mean_over_files"] == [55.0, 105.0]
    assert list(figures["dearest"]) == ["lib/net/one.py", "lib/cut.py"]
    assert capsys.readouterr().out.startswith("55.0 of 110.0 s rerun for an edited file\n")


def test_a_checkout_with_a_table_of_split_files(checkout, monkeypatch, tmp_path_factory, capsys):
    table = tmp_path_factory.mktemp("table") / "moved.json"
    table.write_text('{"lib/all.py": ["lib/net/one.py", "lib/score.py"], "lib/x.py": ["lib/y.py"]}')
    figures = run(checkout, monkeypatch, "--moved", str(table))
    assert figures["mean_over_edits"] == pytest.approx([(10 + 0.8 * 100) / 2, (110 + 0.8 * 100) / 2])
    assert figures["mean_over_files"] == pytest.approx([110 / 3, 210 / 3])
    assert "entries of --moved without effect: lib/x.py" in capsys.readouterr().out


def test_the_edits_of_some_commits_and_the_seconds_of_another_run(checkout, monkeypatch, tmp_path_factory):
    assert run(checkout, monkeypatch, "--until", "HEAD~2")["edits"] == 0
    assert run(checkout, monkeypatch, "--since", "HEAD~1")["edits"] == 0
    other = tmp_path_factory.mktemp("cost")
    (other / "learn.json").write_text('{"seconds": 4}')
    assert run(checkout, monkeypatch, "--until", "HEAD~1", "--cost", str(other))["mean_over_files"] == [2.0, 4.0]


def test_nothing_is_written_unasked_and_no_seconds_are_an_error(checkout, monkeypatch, capsys):
    def status():
        command = ["git", "status", "--porcelain"]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout

    monkeypatch.setattr(sys, "argv", ["rerun_cost", "--root", str(checkout)])
    assert rerun_cost.main() == 0
    assert status() == ""
    monkeypatch.setattr(sys, "argv", ["rerun_cost", "--root", str(checkout), "--cost", str(checkout / "none")])
    assert rerun_cost.main() == 1
    assert "none: has no NAME.json" in capsys.readouterr().err
