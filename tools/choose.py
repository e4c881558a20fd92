"""One trial of values for a preset, measured on val: what `docs/choices.md` says of each choice, as a command.

    python -m tools.choose PRESET ROW [KEY=VALUE ...]

Trains the row of `evaluate` on the split train alone with the given params (dotted keys, values as in YAML) laid over
the preset, and measures it on val, so that no choice ever sees the test split. Runs in a copy as `tools.preset` does,
`.scratch/choices/PRESET`, and adds a line to `results/choices/PRESET.json`: row, values, figures, seconds of each
stage, commit and processor. The same trial again replaces its line.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lib.report.lineage import before
from lib.stage import pipeline
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
    options = parser.parse_args()
    root = Path.cwd()
    copy = root / ".scratch/choices" / options.preset
    try:
        changes = parsed(options.changes)
        text = preset.own_params(options.preset, changes=HELD_OUT | changes)
        [row] = preset.chosen_rows([options.row], entries := pipeline.entries())
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
        "commit": version, "processor": preset.processor(),
    }
    keep(root / f"results/choices/{options.preset}.json", trial)
    print(f"{row} {changes}: voc10 {trial['voc10_map']:.3f}", flush=True)
    return 0


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE -> dotted key and value. Raises InputError for words of another shape."""
    faults = [
        Fault("not understood", "command line", f"{word!r} is no KEY=VALUE", "fast.train.iterations=600", "Correct it")
        for word in words
        if not word.partition("=")[1] or not word.partition("=")[0]
    ]
    if faults:
        raise InputError(faults)
    reader = YAML(typ="safe", pure=True)
    return {key: reader.load(value) for key, _, value in (word.partition("=") for word in words)}


def seconds(copy: Path, stages: Sequence[str]) -> dict[str, float]:
    """Stage -> seconds of its last run, for those that have a record."""
    costs = {stage: copy / f"results/cost/{stage}.json" for stage in stages}
    return {stage: tables.read_json(path)["seconds"] for stage, path in costs.items() if path.exists()}


def keep(path: Path, trial: Mapping[str, Any]) -> None:
    """Adds a trial to the file, in the place of an earlier one of the same row and values."""
    trials = tables.read_json(path) if path.exists() else []
    same = [i for i, earlier in enumerate(trials) if (earlier["row"], earlier["set"]) == (trial["row"], trial["set"])]
    path.parent.mkdir(parents=True, exist_ok=True)
    tables.write_json(path, [*(t for i, t in enumerate(trials) if i not in same), trial])


if __name__ == "__main__":
    sys.exit(main())
