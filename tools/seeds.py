"""Trains the rows of a preset with several seeds: what `python -m stages.experiments seeds PRESET` calls.

Runs in a copy as `tools.preset` does, `.scratch/seeds/PRESET`, a seed after the other, so that what depends on no seed
(tables, proposals, M0) is made once, and rows that share a training share it. As each run ends it is merged into
`results/seeds/PRESET` (`lib/report/seeds.py`). The same command again, after a kill too, does what is not there yet,
and anew what was made with other code or params.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from lib.evaluation import inputs
from lib.report import seeds
from lib.report.outcomes import Outcomes
from lib.stage import overlay, pipeline
from lib.storage import tables
from tools import preset


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
    preset.bring(root, copy)
    preset.connect(root, copy)
    version, codes = preset.commit(root), {row: preset.digest(row, entries, values) for row in chosen}
    failed = []
    for number, text in texts.items():
        for row in chosen:
            if any((old["seed"], old["code"]) == (number, codes[row]) for old in seeds.kept(home, row)):
                continue
            (copy / "params.yaml").write_text(text, encoding="utf-8")
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
    for row in chosen:
        if other := [old["seed"] for old in seeds.kept(home, row) if old["code"] != codes[row]]:
            print(f"stale, as code or params changed since: {row} with seeds {', '.join(map(str, other))}", flush=True)
    if failed:
        print(f"ERROR: failed: {', '.join(failed)}; see above. Run the same again to resume", file=sys.stderr)
    return bool(failed)
