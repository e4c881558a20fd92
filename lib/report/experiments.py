"""Ablations: a folder per table of a paper, a file of params overrides per row, and that table with our figures.

    experiments/GROUP/group.yaml   title, source, note, targets, metrics, measure
    experiments/GROUP/NN-ROW.yaml  row, paper, set: dotted params key -> value, and metrics where not those of the group
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from lib.report.summary import Cell, Table
from lib.stage import overlay, params
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings

FOLDER = Path("experiments")


class Row(overlay.Overlay):
    """row : its name in the paper;  paper : the paper's figure, null where it gives none;  set : overrides of params"""

    row: str
    paper: float | int | None
    metrics: str | None = None


class Group(Settings):
    """title, source, note : texts of the table
    targets : stages to reproduce;  metrics : file with our figure;  measure : its key
    """

    title: str
    source: str
    note: str
    targets: list[str]
    metrics: str
    measure: str


def read(name: str, folder: Path = FOLDER) -> tuple[Group, dict[str, Row]]:
    """A group, and its rows by the names of their files, in order. Raises InputError for what is missing or invalid."""
    known = sorted(path.parent.name for path in folder.glob("*/group.yaml"))
    if name not in known:
        raise InputError(
            [Fault("unknown group", f"{folder}/{name}", "has no group.yaml", ", ".join(known),
                   params.suggestion(name, known) or "Choose one")]
        )
    path = folder / name / "group.yaml"
    group: Group = params.validate(params.load(path), {"": Group}, str(path))[""]
    return group, {path.stem: overlay.read(path, Row) for path in sorted((folder / name).glob("[0-9]*.yaml"))}


def name_of(group: str, row: str, seed: int | None) -> str:
    """The name of the experiment in DVC."""
    return f"{group}-{row}" + ("" if seed is None else f"-seed{seed}")


def command(name: str, group: Group, row: Row, seed: int | None) -> list[str]:
    """The words that queue one row with DVC."""
    changes = {**row.set, **({} if seed is None else {"seed": seed})}
    sets = [word for key, value in changes.items() for text in _overrides(key, value) for word in ("-S", text)]
    return ["dvc", "exp", "run", "--queue", "--name", name, *sets, *group.targets]


def _overrides(key: str, value: Any) -> list[str]:
    """As `dvc exp run -S` takes it. A mapping, its keys bare, replaces the old one: DVC would merge the two."""
    if not isinstance(value, dict):
        return [f"{key}={json.dumps(value)}"]
    inside = ", ".join(f"{name}: {json.dumps(item)}" for name, item in value.items())
    return [f"~{key}", f"+{key}={{{inside}}}"]


def record(
    group: Group, rows: Sequence[Row], values: Sequence[Sequence[float]], seeds: Sequence[int]
) -> dict[str, Any]:
    """The file of a finished group: plain values, our figures in per cent, one for each seed that was run."""
    return {
        "title": group.title, "source": group.source, "note": group.note, "measure": group.measure,
        "seeds": list(seeds),
        "rows": [{"row": row.row, "paper": row.paper, "values": [100 * value for value in figures]}
                 for row, figures in zip(rows, values, strict=True)],
    }


def table(result: Mapping[str, Any]) -> Table:
    """The paper's table with our figures beside it; mean ± standard deviation where there is more than one seed."""
    rows: list[list[Cell]] = []
    for row in result["rows"]:
        ours = row["values"]
        cell = f"{ours[0]:.1f}" if len(ours) == 1 else f"{fmean(ours):.1f} ± {stdev(ours):.1f}" if ours else "not run"
        rows.append([row["row"], "–" if row["paper"] is None else f"{row['paper']:g}", cell])
    seeds = f" Seeds {', '.join(map(str, result['seeds']))}." if len(result["seeds"]) > 1 else ""
    return Table(result["title"], ["row", "paper", f"ours, {result['measure']} in %"], rows,
                 f"{result['source']}. {result['note']}{seeds}")
