"""The same method trained with several seeds: what `python -m tools.seeds` keeps, and its summary.

    results/seeds/PRESET/METHOD.json            each figure of results/metrics/METHOD.json as {mean, std, n, runs}
    results/seeds/PRESET/runs/METHOD.json       the runs: seed, commit, processor, digest of code and params, figures
    results/seeds/PRESET/runs/METHOD.parquet    their outcomes (`outcomes.Outcomes`), from which the bootstrap counts
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib.evaluation.inputs import Inputs
from lib.report.outcomes import OfClass, Outcomes, objects
from lib.storage import tables

FOLDER = Path("results/seeds")
Run = Mapping[str, Any]
# Rows of a seed and class lie together, in the order of `OfClass`.
TABLE = pa.schema([("seed", pa.int64()), ("class", pa.string()), ("image_id", pa.string()), ("right", pa.bool_())])


def summary(figures: Sequence[Mapping[str, float | None]]) -> dict[str, dict[str, Any]]:
    """Figure -> mean, std (of n - 1; None of fewer than two), n, and runs, in the order given; None counts for none."""
    result = {}
    for name in figures[0] if figures else []:
        runs = [run[name] for run in figures]
        known = [value for value in runs if value is not None]
        result[name] = {
            "mean": fmean(known) if known else None, "std": stdev(known) if len(known) > 1 else None,
            "n": len(known), "runs": runs,
        }
    return result


def kept(home: Path, method: str) -> list[Run]:
    """The runs of a method in results/seeds/PRESET, by seed; none where there is no file."""
    path = home / f"runs/{method}.json"
    return list(tables.read_json(path)) if path.exists() else []


def keep(home: Path, method: str, run: Run, outcomes: Outcomes) -> None:
    """Adds a run, in place of that of the same seed, and writes the summary anew. The table comes first: a run that is
    listed has its outcomes."""
    path = home / f"runs/{method}.parquet"
    others = pq.read_table(path) if path.exists() else TABLE.empty_table()
    others = others.filter(pa.array(others["seed"].to_numpy() != run["seed"]))
    table = pa.concat_tables([others.cast(TABLE), _table(run["seed"], outcomes)])
    tables.write_atomic(path, lambda file: pq.write_table(table, file, compression="zstd", use_dictionary=True))
    runs = sorted([*(old for old in kept(home, method) if old["seed"] != run["seed"]), run], key=lambda of: of["seed"])
    tables.write_json(home / f"runs/{method}.json", runs)
    tables.write_json(home / f"{method}.json", summary([item["figures"] for item in runs]))


def _table(seed: int, outcomes: Outcomes) -> pa.Table:
    names = np.array(outcomes.images, dtype=object)
    parts = [
        pa.table([np.full(len(part.image), seed), [name] * len(part.image), names[part.image], part.right], TABLE)
        for name, part in outcomes.classes.items()
    ]
    return pa.concat_tables([TABLE.empty_table(), *parts])


def read(home: Path, method: str, inputs: Inputs) -> dict[int, Outcomes]:
    """Seed -> outcomes of the runs of a method; none where they have images or classes that `inputs` does not have.

    inputs : of the same test images, for their objects
    """
    table = pq.read_table(home / f"runs/{method}.parquet", schema=TABLE).to_pandas()
    place = {name: index for index, name in enumerate(inputs.images)}
    if not set(table["image_id"]) <= place.keys() or not set(table["class"]) <= set(inputs.classes):
        return {}
    of_objects, runs = objects(inputs), {}
    for seed in (run["seed"] for run in kept(home, method)):
        rows = table[table["seed"] == seed]
        of_class = {name: part for name, part in rows.groupby("class", sort=False)}
        nothing = rows.iloc[:0]
        classes = {
            name: OfClass(
                of_class.get(name, nothing)["image_id"].map(place).to_numpy(np.int64),
                of_class.get(name, nothing)["right"].to_numpy(bool),
            )
            for name in inputs.classes
        }
        runs[seed] = Outcomes(inputs.images, classes, of_objects)
    return runs


@dataclass(frozen=True)
class Repeated:
    """figures : the summary of a method's runs;  runs : seed -> outcomes"""

    figures: Mapping[str, Mapping[str, Any]]
    runs: Mapping[int, Outcomes]


def of_these(folder: Path, here: Mapping[str, Outcomes], inputs: Inputs) -> dict[str, Repeated]:
    """What results/seeds has of the runs at hand, by method; methods without are left out.

    A method's runs belong to the run at hand if it is one of them, outcome for outcome: then settings, data, code and
    kind of processor were the same. Others, of another preset or of settings since changed, are passed over.
    """
    belonging = {}
    for path in sorted(folder.glob("*/runs/*.parquet")):
        at_hand = here.get(path.stem)
        runs = read(path.parents[1], path.stem, inputs) if at_hand else {}
        if at_hand and any(at_hand.same(run) for run in runs.values()):
            belonging[path.stem] = Repeated(tables.read_json(path.parents[1] / f"{path.stem}.json"), runs)
    return belonging
