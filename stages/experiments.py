"""The papers' ablations: queues a group with DVC, and prints the paper's table with our figures beside it.

``python -m stages.experiments list | queue GROUP... | table GROUP... [--seeds 3 4 5]``: one experiment per row and
seed, run by ``dvc queue start -j 1`` (two would compete for the cores); `table` writes `results/experiments/GROUP.*`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lib.evaluation.settings import Report
from lib.report import experiments, revisions
from lib.stage import overlay, params
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from stages import schemas

OUT = Path("results/experiments")


def check(group: str) -> None:
    """Raises InputError with everything wrong in a group's overrides, before anything is queued."""
    values: dict[str, Any] = params.load()
    faults: dict[Fault, None] = {}
    for name, row in experiments.read(group)[1].items():
        try:
            where = f"experiments/{group}/{name}.yaml"
            faults |= dict.fromkeys(schemas.faults(overlay.apply(values, row.set, where), where))
        except InputError as error:
            faults |= dict.fromkeys(error.faults)
    if faults:
        raise InputError(list(faults))


def queue(group: str, seeds: list[int | None]) -> None:
    """One experiment for each row and seed; those that change nothing and set no seed are the workspace itself."""
    check(group)
    settings, rows = experiments.read(group)
    for name, row in rows.items():
        for seed in seeds:
            words = experiments.command(experiments.name_of(group, name, seed), settings, row, seed)
            if (row.set or seed is not None) and (code := subprocess.run(words, check=False).returncode):
                sys.exit(code)  # dvc has said why
    print("Now run: dvc queue start -j 1   (dvc queue status, dvc queue logs NAME)")


def table(group: str, seeds: list[int | None]) -> None:
    """The table of a group from the experiments that are finished."""
    settings, rows = experiments.read(group)
    figures: list[list[float]] = [[] for _ in rows]
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, row) in enumerate(rows.items()):
            for seed in seeds:
                label = experiments.name_of(group, name, seed) if row.set or seed is not None else revisions.WORKSPACE
                try:
                    path = revisions.fetch(label, row.metrics or settings.metrics, Path(scratch) / f"{number}-{seed}")
                except InputError:
                    print(f"{label}: not there yet", file=sys.stderr)
                    continue
                figures[number].append(tables.read_json(path)[settings.measure])
    record = experiments.record(settings, list(rows.values()), figures, [seed for seed in seeds if seed is not None])
    tables.write_json(OUT / f"{group}.json", record)
    tables.write_text(OUT / f"{group}.md", text := experiments.table(record).markdown())
    print(text)


def main(options: argparse.Namespace) -> None:
    """See the module's docstring."""
    if options.verb == "list":
        for path in sorted(experiments.FOLDER.glob("*/group.yaml")):
            print(f"{path.parent.name:20} {experiments.read(path.parent.name)[0].title}")
    numbers = options.seeds or params.validate(params.load(), {"report": Report})["report"].seeds
    seeds: list[int | None] = [*numbers] if len(numbers) > 1 else [None]
    for group in options.groups:
        (queue if options.verb == "queue" else table)(group, seeds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m stages.experiments", description=__doc__)
    parser.add_argument("verb", choices=["list", "queue", "table"])
    parser.add_argument("groups", nargs="*", help="folders of experiments/")
    parser.add_argument("--seeds", type=int, nargs="*", help="instead of report.seeds")
    try:
        options = parser.parse_args()
        main(options) if options.groups or options.verb == "list" else parser.error("name a group; `list` shows them")
    except InputError as error:
        sys.exit(f"ERROR: {error}")
