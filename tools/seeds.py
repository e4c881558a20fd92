"""Trains the rows of a preset with several seeds.

    python -m tools.seeds PRESET [ROW...] [--seeds 3 4 5] [--root FOLDER]

Runs in a copy as `tools.preset` does, `.scratch/seeds/PRESET`, a seed after the other, so that what depends on no seed
(tables, proposals, M0) is made once, and rows that share a training share it. As each run ends it is merged into
`results/seeds/PRESET` (`lib/report/seeds.py`). It says first which runs are there, and which it will make: the same
command again, after a kill too, makes what is not there yet, and anew what was made with other code or params.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lib.evaluation import inputs
from lib.report import seeds
from lib.report.outcomes import Outcomes
from lib.stage import overlay, pipeline
from lib.stage.errors import InputError
from lib.storage import tables
from tools import preset

SEEDS = (3, 4, 5, 6, 7)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="of a file in presets/, without .yaml")
    parser.add_argument("rows", nargs="*", help="rows of evaluate in dvc.yaml; all without")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help=f"without: {listed(SEEDS)}")
    parser.add_argument("--root", help="folder of the data set in place of the preset's")
    options = parser.parse_args()
    try:
        return run(options.preset, options.rows, options.seeds, options.root)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1


def run(name: str, rows: Sequence[str], numbers: Sequence[int], folder: str | None = None) -> int:
    """0, or 1 where a run failed, which keeps no other from running.

    name   : of a preset;  rows : of `evaluate`, all without;  numbers : the seeds
    folder : of the data set, in place of the preset's
    Raises InputError before anything runs.
    """
    root, changes = Path.cwd(), preset.at_root(folder)
    entries, values = pipeline.entries(), overlay.values(name)
    texts = {number: preset.own_params(name, changes=changes | {"seed": number}) for number in numbers}
    chosen = preset.chosen_rows(rows, entries)
    copy, home = root / ".scratch/seeds" / name, root / seeds.FOLDER / name
    version, codes = preset.commit(root), {row: preset.digest(row, entries, values) for row in chosen}
    made = {row: of_code(home, row, code) for row, code in codes.items()}
    todo = [(number, row) for number in texts for row, (there, _) in made.items() if number not in there]
    for row, (there, stale) in made.items():
        missing = listed([number for number, of in todo if of == row])
        print(f"{row}: seeds there: {listed(there)}; stale: {listed(stale)}; to run: {missing}", flush=True)
    if todo:
        preset.bring(root, copy)
        preset.connect(root, copy)
    failed = []
    for number, row in todo:
        (copy / "params.yaml").write_text(texts[number], encoding="utf-8")
        print(f"{row} with seed {number} runs in {copy}", flush=True)
        if preset.repro(copy, f"{preset.ROW}{row}"):
            failed.append(f"{row} with seed {number}")
            continue
        figures = tables.read_json(copy / f"results/metrics/{row}.json")
        origin = {"seed": number, "commit": version, "processor": preset.processor(), "code": codes[row]}
        read = inputs.read(
            copy / f"data/detections/{row}.parquet", copy / "data/tables/objects.parquet", values["splits"]["test"]
        )
        seeds.keep(home, row, origin | {"figures": figures}, Outcomes.of(read, values["evaluate"]["iou"]))
        print(f"{row} with seed {number}: voc10 {figures['voc10_map']}", flush=True)
    for row, code in codes.items():
        if stale := of_code(home, row, code)[1]:
            print(f"stale, as code or params changed since: {row} with seeds {listed(stale)}", flush=True)
    if failed:
        print(f"ERROR: failed: {', '.join(failed)}; see above. Run the same again to resume", file=sys.stderr)
    return bool(failed)


def of_code(home: Path, row: str, code: str) -> tuple[list[int], list[int]]:
    """Seeds of the runs of a row that are there: those of this code and these params, and the stale ones, of others."""
    there, stale = list[int](), list[int]()
    for made in seeds.kept(home, row):
        (there if made["code"] == code else stale).append(made["seed"])
    return there, stale


def listed(numbers: Sequence[int]) -> str:
    """Seeds as a message has them."""
    return ", ".join(map(str, numbers)) or "none"


if __name__ == "__main__":
    sys.exit(main())
