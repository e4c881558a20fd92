"""Seeds run in a copy through a real `dvc repro`, of the small pipeline of test_preset."""

import json
import shutil
import sys

import pytest

from lib.report import seeds as files
from lib.report.outcomes import Outcomes
from lib.stage import overlay, pipeline
from lib.stage.errors import InputError
from tests.tools.test_preset import EVALUATE, STAGES, repository  # noqa: F401  (a fixture)
from tools import seeds

VALUES = (
    "n: 1\nrcnn: 1\nspp: 1\nother: 1\nseed: 3\nsplits: {test: [test]}\nevaluate: {iou: 0.5}\n"
    "data: {root: some/where}\n"
)
SEEDED = """
import json, pathlib, sys
text = pathlib.Path("params.yaml").read_text()
seed = int(text.split("seed: ")[1].split()[0])
if pathlib.Path("broken").exists() and seed == 5:
    sys.exit(1)
for folder in ("metrics", "plots/classes", "plots/other"):
    pathlib.Path(f"results/{folder}").mkdir(parents=True, exist_ok=True)
    pathlib.Path(f"results/{folder}/{sys.argv[1]}.json").write_text(json.dumps({"voc10_map": seed / 10}))
open("runs.txt", "a").write(f"{sys.argv[1]}{seed} ")
"""


@pytest.fixture
def seeded(repository, monkeypatch):  # noqa: F811
    """The small pipeline, whose rows depend on the seed and whose first stage does not."""
    (repository / "stages/evaluate.py").write_text(SEEDED)
    (repository / "dvc.yaml").write_text(STAGES.replace('params: ["${key}"]', 'params: [seed, "${key}"]'))
    for path in ("params.yaml", "presets/default.yaml"):
        (repository / path).write_text(VALUES)
    monkeypatch.setattr(seeds.inputs, "read", lambda *paths: None)
    monkeypatch.setattr(seeds.Outcomes, "of", lambda *of: Outcomes(["i"], {}, {}))
    return repository


def test_rows_times_seeds_are_merged_as_they_end_and_what_has_no_seed_runs_once(seeded, capsys):
    home, runs = seeded / "results/seeds/two", seeded / ".scratch/seeds/two/runs.txt"
    assert seeds.run("two", ["rcnn"], [3, 4]) == 0
    assert runs.read_text() == "count rcnn3 rcnn4 "
    assert json.loads((home / "rcnn.json").read_text())["voc10_map"]["runs"] == [0.3, 0.4]
    (seeded / "broken").touch()  # a run that fails keeps no other from running
    (seeded / ".scratch/seeds/two/broken").touch()
    assert seeds.run("two", [], [3, 4, 5]) == 1
    printed = capsys.readouterr()
    assert "rcnn: seeds there: 3, 4; stale: none; to run: 5\nspp: seeds there: none; stale: none; to run: 3, 4, 5\n" \
        in printed.out
    assert "failed: rcnn with seed 5, spp with seed 5" in printed.err
    assert json.loads((home / "spp.json").read_text())["voc10_map"]["runs"] == [0.3, 0.4]
    for folder in (seeded, seeded / ".scratch/seeds/two"):
        (folder / "broken").unlink(missing_ok=True)
    assert seeds.run("two", [], [3, 4, 5]) == 0  # resumes: what is there is not run again
    assert sorted(runs.read_text().split()) == ["count", "rcnn3", "rcnn4", "rcnn5", "spp3", "spp4", "spp5"]
    assert [run["seed"] for run in files.kept(home, "spp")] == [3, 4, 5]
    assert (seeded / "params.yaml").read_text() == VALUES
    shutil.rmtree(seeded / ".scratch")
    assert seeds.run("two", [], [3, 4, 5]) == 0
    assert not (seeded / ".scratch").exists(), "nothing to run needs no copy"


def test_other_code_runs_again_and_is_told(seeded, capsys):
    assert seeds.run("two", ["rcnn"], [3, 4]) == 0
    (seeded / "stages/evaluate.py").write_text(SEEDED.replace("seed / 10", "seed / 100"))
    assert seeds.run("two", ["rcnn"], [4]) == 0
    printed = capsys.readouterr().out
    assert "rcnn: seeds there: none; stale: 3, 4; to run: 4\n" in printed
    assert "stale, as code or params changed since: rcnn with seeds 3\n" in printed
    kept = json.loads((seeded / "results/seeds/two/rcnn.json").read_text())
    assert kept["voc10_map"]["runs"] == [0.3, 0.04]


def test_what_is_wrong_ends_it_before_anything_runs(seeded):
    for words in (("tow", []), ("two", ["rcn"])):
        with pytest.raises(InputError):
            seeds.run(*words, [3])
    with pytest.raises(InputError):
        seeds.run("two", ["rcnn"], [3], "nowhere")
    assert not (seeded / ".scratch").exists()


def test_the_command(monkeypatch, capsys):
    """All rows with seeds 3 to 7 where nothing else is said; a fault ends it with its message and 1."""
    called = []
    monkeypatch.setattr(seeds, "run", lambda *words: called.append(words) or 0)
    for words in (["digits"], ["bccd", "rcnn", "spp", "--seeds", "3", "4", "--root", "data"]):
        monkeypatch.setattr(sys, "argv", ["seeds", *words])
        assert seeds.main() == 0
    assert called == [("digits", [], (3, 4, 5, 6, 7), None), ("bccd", ["rcnn", "spp"], [3, 4], "data")]
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["seeds", "digits", "--root", "nowhere"])
    assert seeds.main() == 1
    assert "ERROR: --root: nowhere is no folder" in capsys.readouterr().err


def test_what_does_not_depend_on_the_seed_is_made_once():
    """Of the real pipeline: tables, proposals and M0, and all before them, do not read `seed`."""
    from lib.report.lineage import before

    entries = pipeline.entries()
    for name in ("prepare", "propose", "m0"):
        for stage in {name, *before(name, entries)}:
            assert not [key for key in entries[stage].params if key == "seed"], stage
    assert "seed" in overlay.values("default")
    assert "seed" in entries["faster_joint"].params
