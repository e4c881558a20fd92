"""What an edit of code costs in reruns, by the history of edits and the seconds that each stage took.

    python -m tools.rerun_cost [--root DIR] [--since REV] [--until REV] [--moved FILE] [--cost DIR] [--json PATH]

Edits are those of `tools/edits.py`: files under lib/ and stages/ with status M in a commit, at the paths where their
code is today. An edit of a file that was split (`--moved FILE`) is shared out among its successors by their lines of
today. Edits of code that is gone are left out and counted.

The cost of a file, in seconds, is that of the stages of today's default run (`dvc repro`) that list it, or a folder
above it, among their deps. "Downstream" adds every stage that descends from these: the most that DVC can run, when
every output changes. Seconds are results/cost/NAME.json; a stage without such a file counts 0 and is listed. Code in
no stage's deps costs 0, and counts.

The headline is the mean over the files edited, each once, of the stages that list them, code that all stages share
included. At dc3fd8d it is 209 s of the default run's 715 s. Stages that keep no record (evaluate, draw, report, digits)
are not in it: an edited file reruns 2.1 of them. Timed once on two busy cores, from start to output, evaluate took
3.9 s a method, draw 5.8 s, the report 16 s; with these in a folder for `--cost` it is 221 s, the "220 s" that a
layout is measured against. No reading with all downstream comes near: 370 s over files, 354 s over edits.

To compare two layouts, give both the same edits and the same seconds: `--until` the last commit before the move,
`--cost` the older tree's results/cost. Commit first: a rename that is not committed is not followed.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lib.report.lineage import before
from lib.stage.pipeline import Entry, entries
from tools import edits

CODE = ("lib/", "stages/")
DEAREST = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(), help="the checkout to look at")
    parser.add_argument("--since", help="edits after this revision only")
    parser.add_argument("--until", default="HEAD", help="edits up to this revision only; later renames are followed")
    parser.add_argument("--moved", type=Path, help="YAML or JSON, old path: [new paths], of files that were split")
    parser.add_argument("--cost", type=Path, help="folder of NAME.json; default: results/cost of the checkout")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    root = options.root
    try:
        moved = edits.read_moved(options.moved) if options.moved else {}
        seconds = read_seconds(options.cost or root / "results/cost")
        history = edits.changes(root, CODE)
        counted = edits.commits(root, options.since, options.until)
        lines = {path: count_lines(root / path) for path in edits.git(root, "ls-files", *CODE).split("\n") if path}
    except ValueError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    # Past the cache, which holds the stages of the working directory.
    with contextlib.chdir(root):
        stages = entries.__wrapped__()
    figures = measure(edits.follow(history, counted, moved, lines), lines, default_run(stages), seconds)
    figures |= {"code_deps": code_deps(stages), "moved_without_effect": edits.without_effect(history, moved)}
    print(report(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def read_seconds(folder: Path) -> dict[str, float]:
    """Stage -> seconds of its last run. Raises ValueError where the folder has none: every cost would be 0."""
    seconds = {path.stem: json.loads(path.read_text(encoding="utf-8"))["seconds"] for path in folder.glob("*.json")}
    if not seconds:
        raise ValueError(f"{folder}: has no NAME.json. Run dvc repro, or name another folder with --cost")
    return seconds


def count_lines(path: Path) -> int:
    """0 for a file that is tracked and no longer there."""
    return len(path.read_text(encoding="utf-8").splitlines()) if path.is_file() else 0


def is_code(dep: str) -> bool:
    """lib, stages, or a path below."""
    return f"{dep}/".startswith(CODE)


def above(stages: Mapping[str, Entry]) -> dict[str, set[str]]:
    """Stage -> the stages from which it descends. Code deps are no stage's outs, and most of the deps."""
    data = {
        name: replace(entry, deps=tuple(dep for dep in entry.deps if not is_code(dep)))
        for name, entry in stages.items()
    }
    return {name: before(name, data) for name in stages}


def default_run(stages: Mapping[str, Entry]) -> dict[str, Entry]:
    """What `dvc repro` runs: the stages of the dvc.yaml at the root and those that they need, no other data sets."""
    ancestors = above(stages)
    own = {name for name in stages if ":" not in name}
    needed = own.union(*(ancestors[name] for name in own))
    return {name: entry for name, entry in stages.items() if name in needed}


def listing(path: str, stages: Mapping[str, Entry]) -> set[str]:
    """Stages that have the file, or a folder above it, among their deps."""
    return {name for name, entry in stages.items() if any(f"{path}/".startswith(f"{dep}/") for dep in entry.deps)}


def code_deps(stages: Mapping[str, Entry]) -> dict[str, float]:
    """How many deps of a stage are code."""
    counts = [sum(map(is_code, entry.deps)) for entry in stages.values()]
    return {"mean": fmean(counts), "most": max(counts)}


def shares(paths: Iterable[str], lines: Mapping[str, int]) -> dict[str, float]:
    """How one edit is shared out among the files that hold its code today: by lines, an empty file as one line."""
    weights = {path: max(lines[path], 1) for path in paths}
    return {path: weight / sum(weights.values()) for path, weight in weights.items()}


def measure(
    edited: Sequence[Sequence[str]],
    lines: Mapping[str, int],
    stages: Mapping[str, Entry],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """All figures. A cost is [seconds of the stages that list the code, seconds with all downstream], None if no edits.

    edited  : the paths of each edit, empty where its code is gone;  lines : of each path of today
    seconds : by stage, 0 where missing
    """
    ancestors = above(stages)
    listed = {path: listing(path, stages) for paths in edited for path in paths}
    cost = {}
    for path, names in listed.items():
        rerun = names | {name for name in stages if ancestors[name] & names}
        cost[path] = [sum(seconds.get(name, 0.0) for name in sorted(group)) for group in (names, rerun)]
    edit_costs = [
        [sum(share * cost[path][reach] for path, share in shares(paths, lines).items()) for reach in (0, 1)]
        for paths in edited if paths
    ]
    with_code = {name for name, entry in stages.items() if any(map(is_code, entry.deps))}
    of_some = [path for path, names in listed.items() if names and names != with_code]
    packages: dict[str, list[str]] = {}
    for path in sorted(cost):
        packages.setdefault(str(Path(path).parent), []).append(path)
    missing = set(stages) - set(seconds)
    dearest = sorted(cost, key=lambda path: (-cost[path][0], -cost[path][1], path))[:DEAREST]
    return {
        "run_seconds": sum(seconds.get(name, 0.0) for name in stages),
        "edits": len(edit_costs),
        "edits_of_gone": len(edited) - len(edit_costs),
        "mean_over_edits": means(edit_costs),
        "files": len(cost),
        "mean_over_files": means(cost.values()),
        "files_of_some": len(of_some),
        "mean_over_files_of_some": means([cost[path] for path in of_some]),
        "packages": {
            name: {"files": len(paths), "mean": means([cost[path] for path in paths])}
            for name, paths in packages.items()
        },
        "dearest": {path: cost[path] for path in dearest},
        "unmeasured": sorted(missing),
        "unmeasured_of_a_file": fmean(len(names & missing) for names in listed.values()) if listed else None,
    }


def means(costs: Collection[Sequence[float]]) -> list[float] | None:
    """Column by column."""
    return [fmean(column) for column in zip(*costs, strict=True)] if costs else None


def report(figures: Mapping[str, Any]) -> str:
    """The figures to read, the headline first."""
    if not figures["edits"]:
        return f"no edit of code that is still there, {figures['edits_of_gone']} of code that is gone"
    rows = [
        (f"mean over {figures['files']} edited files", figures["mean_over_files"]),
        (f"  {figures['files_of_some']} that some stages list, not all", figures["mean_over_files_of_some"]),
        (f"mean over {figures['edits']} edits", figures["mean_over_edits"]),
        *((f"{name}, {package['files']} files", package["mean"]) for name, package in figures["packages"].items()),
        *figures["dearest"].items(),
    ]
    missing = figures["unmeasured"]
    ending = [
        f"code deps of a stage: mean {figures['code_deps']['mean']:.1f}, most {figures['code_deps']['most']}",
        f"edits of code that is gone: {figures['edits_of_gone']}",
        f"stages without seconds, {figures['unmeasured_of_a_file']:.1f} of those that list an edited file: "
        + (", ".join(missing) or "none"),
    ]
    if figures["moved_without_effect"]:
        ending.append(f"entries of --moved without effect: {', '.join(figures['moved_without_effect'])}")
    return "\n".join([
        f"{figures['mean_over_files'][0]:.1f} of {figures['run_seconds']:.1f} s rerun for an edited file",
        "",
        f"{'seconds':<50}{'that list it':>14}{'downstream':>14}",
        *(f"{name:<50}{pair[0]:14.1f}{pair[1]:14.1f}" for name, pair in rows if pair),
        "",
        *ending,
    ])


if __name__ == "__main__":
    sys.exit(main())
