"""One trial of values for a preset, measured on val: where the figures of docs/choices.md come from.

    python -m tools.choose PRESET ROW [KEY=VALUE ...] [--root FOLDER]

Trains the row of `evaluate` on the split train alone with the given params (dotted keys, values as in YAML) laid over
the preset, and measures it on val, so that no choice ever sees the test split. Runs in a copy as `tools.preset` does,
`.scratch/choices/PRESET`, and adds a line to `results/choices/PRESET.json` and to the table beside it, PRESET.md: the
row, the values, figures, seconds of each stage, commit and processor. The same trial again replaces its line; where the
preset has changed since, the earlier line stays and is marked.
"""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from lib.report.lineage import before
from lib.report.summary import Table
from lib.stage import overlay, pipeline
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from tools import preset

HELD_OUT = {"splits.train": ["train"], "splits.test": ["val"]}
FIGURES = ("voc10_map", "voc07_map", "coco_map", "images", "objects")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="of a file in presets/, without .yaml")
    parser.add_argument("row", help="row of evaluate in dvc.yaml")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE", help="params that differ from the preset's")
    parser.add_argument("--root", help="folder of the data set in place of the preset's")
    options = parser.parse_args()
    root = Path.cwd()
    copy, home = root / ".scratch/choices" / options.preset, root / "results/choices"
    try:
        changes, entries = parsed(options.changes), pipeline.entries()
        text = preset.own_params(options.preset, changes=HELD_OUT | preset.at_root(options.root) | changes)
        [row] = preset.chosen_rows([options.row], entries)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    preset.bring(root, copy)
    (copy / "params.yaml").write_text(text, encoding="utf-8")
    preset.connect(root, copy)
    version = preset.commit(root)
    if preset.repro(copy, f"{preset.ROW}{row}"):
        return 1
    metrics = tables.read_json(copy / f"results/metrics/{row}.json")
    trial = {
        "row": row, "set": changes, **{name: metrics[name] for name in FIGURES},
        "seconds": seconds(copy, sorted(before(f"{preset.ROW}{row}", entries))),
        "params": resolved(overlay.values(options.preset), row, changes),
        "commit": version, "processor": preset.processor(),
    }
    trials = with_trial(home / f"{options.preset}.json", trial)
    home.mkdir(parents=True, exist_ok=True)
    tables.write_json(home / f"{options.preset}.json", trials)
    tables.write_text(home / f"{options.preset}.md", table(options.preset, trials).markdown())
    print(f"{row} {shown(changes)}: voc10 {trial['voc10_map']:.3f}", flush=True)
    return 0


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE -> dotted key and value. Raises InputError for all words that are none."""
    reader, changes, faults = YAML(typ="safe", pure=True), {}, []
    for word in words:
        key, equals, value = word.partition("=")
        try:
            if not key or not equals:
                raise ValueError(word)
            changes[key] = reader.load(value)
        except (ValueError, YAMLError):
            example = "fast.train.iterations=600"
            faults.append(Fault("not understood", "command line", f"{word!r} is no KEY=VALUE", example, "Correct it"))
    if faults:
        raise InputError(faults)
    return changes


def seconds(copy: Path, stages: Sequence[str]) -> dict[str, float]:
    """Stage -> seconds of its last run, for those that have a record."""
    costs = {stage: copy / f"results/cost/{stage}.json" for stage in stages}
    return {stage: tables.read_json(path)["seconds"] for stage, path in costs.items() if path.exists()}


def resolved(values: Mapping[str, Any], row: str, changes: Mapping[str, Any]) -> str:
    """A short hash of all params of a row's stages.

    values : of the preset, nested;  changes : dotted key -> value, laid over them
    """
    entries, values = pipeline.entries(), overlay.apply(values, changes, "command line")
    stages = preset.stages_of(row, entries, str(overlay.at(values, "data.root")))
    settings = {key: overlay.at(values, key) for stage in stages for key in entries[stage].params}
    return hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:16]


def with_trial(path: Path, trial: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The trials of a file and this one, which replaces that of the same row, values and preset."""
    earlier = tables.read_json(path) if path.exists() else []
    key = lambda of: (of["row"], of["set"], of.get("params"))  # noqa: E731
    return [*(other for other in earlier if key(other) != key(trial)), trial]


def shown(changes: Mapping[str, Any]) -> str:
    """Values as they stand in a command."""
    return " ".join(f"{key}={'null' if value is None else value}" for key, value in changes.items())


def today(values: Mapping[str, Any], trial: Mapping[str, Any]) -> str:
    """What `resolved` gives of a trial's command now; empty where the command is none any more."""
    try:
        return resolved(values, trial["row"], trial["set"])
    except (InputError, KeyError):
        return ""


def table(name: str, trials: Sequence[Mapping[str, Any]]) -> Table:
    """The trials of a preset, those of a row together."""
    columns = ["row", "values beside the preset's", "preset", "voc10", "voc07", "coco", "minutes", "commit"]
    values = overlay.values(name)
    rows = [
        [trial["row"], shown(trial["set"]) or "none",
         "as now" if trial.get("params") == today(values, trial) else "since changed",
         *(trial[figure] for figure in FIGURES[:3]), round(sum(trial["seconds"].values()) / 60), trial["commit"]]
        for trial in sorted(trials, key=lambda trial: str(trial["row"]))
    ]
    note = (
        f"Trained on train, measured on val, never on test: `python -m tools.choose {name} ROW VALUES`. Where the "
        "preset has since changed, the command would give another figure today: the commit has the preset of then. A + "
        "after a commit: with edits that were in none."
    )
    return Table(f"Trials for {name}", columns, rows, note)


if __name__ == "__main__":
    sys.exit(main())
