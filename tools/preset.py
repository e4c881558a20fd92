"""Runs a preset in a copy of the working tree and copies its figures back: what `make preset NAME=bccd` calls.

    python -m tools.preset NAME [ROWS...] [--root FOLDER]

The copy is `.scratch/presets/NAME`, a repository of its own with the params.yaml that `make params` would write.
Nothing here is touched: not params.yaml, not data/, not dvc.lock. The copy stays, so a killed run resumes and a second
run does only what has changed. It shares this repository's DVC cache.

FOLDER holds the data set where that is not the preset's own `data.root`. Rows are those of `evaluate` (rcnn, fast_svd):
all of dvc.yaml without ROWS, and then whatever else it has; with ROWS a report of the rows that are there. As each row
ends, its figures come to `results/presets/NAME`: METHOD.json and proposals/, in the folders classes/ and error_effects/
those of each class, and in cost/ and speed/ those of the stages that it needs. `rows.json` there says of each row by
which commit and on which processor it was made, and whether it is stale: whether its code, command or params are others
today. A row that fails does not keep the next from running; its earlier figures stay.
"""

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lib.report.lineage import before
from lib.stage import overlay, params, pipeline
from lib.stage.errors import Fault, InputError
from lib.stage.pipeline import Entry
from lib.storage import tables
from tools.params import written

ROW = "evaluate@"

# Not needed in a copy, or of this repository's own runs: its lock would make the copy's finished work look undone.
LEFT_OUT = ("results/", "tests/", "docs/", "params.yaml")
KEPT = "results/seeds/"  # the report reads them
PRODUCED = "data/*/VOCdevkit"
REPORT, REPORT_PAGE = "results/report.md", "results/report.html"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a file in presets/, without .yaml")
    parser.add_argument("rows", nargs="*", help="rows of evaluate in dvc.yaml; all and everything else without")
    parser.add_argument("--root", help="folder of the data set in place of the preset's")
    options = parser.parse_args()
    root = Path.cwd()
    try:
        text, values = own_params(options.name, changes=at_root(options.root)), overlay.values(options.name)
        entries = pipeline.entries()
        rows = chosen_rows(options.rows, entries)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    copy, home = root / ".scratch/presets" / options.name, root / "results/presets" / options.name
    bring(root, copy)
    (copy / "params.yaml").write_text(text, encoding="utf-8")
    connect(root, copy)
    print(f"preset {options.name} runs in {copy}", flush=True)
    # Of the code that was copied: edits made here during the run are none of it.
    version, codes = commit(root), {row: digest(row, entries, values) for row in rows}
    failed = []
    for row in rows:
        if repro(copy, f"{ROW}{row}"):
            failed.append(row)
            continue
        for path in collect(row, entries, copy, home):
            print(path.relative_to(root), flush=True)
        record(row, home, version, codes[row])
    if not failed:
        failed += ["the other stages"] * bool(rest(copy, entries, only_report=bool(options.rows)))
    stale = mark_stale(entries, values, home) if set(rows) - set(failed) else []
    if not failed and (copy / REPORT).exists():
        print(f"{bring_report(copy, home, stale).relative_to(root)}, with pictures: {copy / REPORT_PAGE}", flush=True)
    if failed:
        print(f"ERROR: failed: {', '.join(failed)}; see above. Run the same again to resume", file=sys.stderr)
    return bool(failed)


def chosen_rows(names: Sequence[str], entries: Mapping[str, Entry]) -> list[str]:
    """The rows of these names, all rows without. Raises InputError naming every row that is not there."""
    rows = [name.removeprefix(ROW) for name in entries if name.startswith(ROW)]
    faults = [
        Fault("unknown row", "rows", f"{name!r} is no row of evaluate", ", ".join(rows), params.suggestion(name, rows))
        for name in names
        if name not in rows
    ]
    if faults:
        raise InputError(faults)
    return list(names) or rows


def repro(copy: Path, *targets: str) -> int:
    """Exit code of `dvc repro`."""
    return subprocess.run(["dvc", "repro", *targets], cwd=copy, env=environment(), check=False).returncode


def rest(copy: Path, entries: Mapping[str, Entry], only_report: bool) -> int:
    """Exit code of `dvc repro` of all that is not done yet; of a report of the rows that are there, if wanted alone."""
    if not only_report:
        return repro(copy)
    if "report" not in entries:
        return 0
    for dep in entries["report"].deps:
        if not (copy / dep).exists():  # DVC wants to see a folder where no row that ran has written to it
            (copy / dep).mkdir(parents=True)
    return repro(copy, "--single-item", "report")


def bring_report(copy: Path, home: Path, stale: Sequence[str]) -> Path:
    """The report's text among the figures. What it compares need not be of one state of code and params: it says so.
    Of the place of the data it keeps the name alone, as others have them elsewhere."""
    title, _, rest_of_it = (copy / REPORT).read_text(encoding="utf-8").partition("\n\n")
    place = str(overlay.at(params.load(copy / "params.yaml"), "data.root"))
    rest_of_it = rest_of_it.replace(f"Data: {place}.", f"Data: {Path(place).name}.", 1)
    older = [f"Rows of other code or params than the last run's: {', '.join(stale)}."] if stale else []
    target = home / Path(REPORT).name
    tables.write_text(target, "\n\n".join([title, *older, rest_of_it]))
    return target


def commit(root: Path) -> str:
    """The checked-out commit; with "+" where tracked files are edited, as the run used the edits."""
    command = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
    described = subprocess.run(command, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    return described.stdout.strip() or "none"


def environment() -> dict[str, str]:
    """This process's, without what a surrounding dvc or git has set for its own repository; RCNN_DATA absolute."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
    return variables | {name: str(Path(variables[name]).resolve()) for name in ("RCNN_DATA",) if variables.get(name)}


def tracked(root: Path) -> list[str]:
    """Files that Git tracks or would add, without those that a copy does not need."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, env=environment(), capture_output=True, text=True, check=True,
    ).stdout.split("\0")
    return [
        name for name in listed
        if name and (root / name).is_file() and not name.endswith("dvc.lock")
        and (name.startswith(KEPT) or not name.startswith(LEFT_OUT))
    ]


def bring(root: Path, copy: Path) -> None:
    """Updates the copy's code to that of `root`: copies new and changed files, deletes removed ones, keeps data."""
    listing = copy.parent / f"{copy.name}.files"
    names = tracked(root)
    before = listing.read_text().split("\0") if listing.exists() else []
    for name in set(before) - set(names):
        (copy / name).unlink(missing_ok=True)
    for name in names:
        target = copy / name
        if not target.exists() or target.read_bytes() != (root / name).read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target)
    listing.write_text("\0".join(names))


def own_params(name: str, folder: Path = overlay.FOLDER, changes: Mapping[str, Any] | None = None) -> str:
    """The copy's params.yaml: the preset's, `changes` (dotted key -> value) over it, and paths of the user's own made
    absolute. Raises InputError."""
    values, root = overlay.values(name, folder), folder.parent
    own: dict[str, Any] = dict(changes or {})
    for block, key in (("data", "root"), ("m0", "weights")):
        path = Path(str(own.get(f"{block}.{key}", values.get(block, {}).get(key, ""))))
        if path.parts and not fnmatchcase(str(path), PRODUCED) and not path.is_absolute() and (root / path).exists():
            own[f"{block}.{key}"] = str((root / path).resolve())
    return written(name, folder, own)


def at_root(folder: str | None) -> dict[str, Any]:
    """What the option --root changes. Raises InputError for a folder that is not there or holds no file."""
    if folder and not any(path.is_file() for path in Path(folder).rglob("*")):
        problem = "holds no file" if Path(folder).is_dir() else "is no folder"
        remedy = "Name the folder of the data set"
        raise InputError([Fault("no folder", "--root", f"{folder} {problem}", "", remedy)])
    return {"data.root": folder} if folder else {}


def connect(root: Path, copy: Path) -> None:
    """A Git repository, as DVC wants one, and the DVC cache of `root`."""
    if not (copy / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=copy, env=environment(), check=True)
    printed = subprocess.run(
        ["dvc", "cache", "dir"], cwd=root, env=environment(), capture_output=True, text=True, check=True
    ).stdout
    cache = (root / printed.strip()).resolve()
    subprocess.run(["dvc", "cache", "dir", "--local", str(cache)], cwd=copy, env=environment(), check=True)


def collect(row: str, entries: Mapping[str, Entry], copy: Path, home: Path) -> Iterator[Path]:
    """Copies the metrics, also by class, costs and speeds that a row and the stages before it made; others stay."""
    parts = {"plots/classes": "classes", "plots/error_effects": "error_effects", "cost": "cost", "speed": "speed"}
    folders = {"results/metrics": home, **{f"results/{part}": home / name for part, name in parts.items()}}
    for name in stages_of(row, entries):
        for out in entries[name].outs:
            for folder, target in folders.items():
                if out.startswith(f"{folder}/") and out.endswith(".json"):
                    copied = target / out.removeprefix(f"{folder}/")
                    copied.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(copy / out, copied)
                    yield copied


def stages_of(row: str, entries: Mapping[str, Entry], data_root: str = "") -> list[str]:
    """The stages of a row, sorted; of those that fetch or make a data set (data/NAME/dvc.yaml) that of `data_root`.

    entries : as the params.yaml at hand has them, whose data set may be another
    """
    stages = {f"{ROW}{row}", *before(f"{ROW}{row}", entries)}
    sets = {name: name.partition("dvc.yaml:")[0] for name in entries if ":" in name}
    return sorted(stages - sets.keys() | {name for name, folder in sets.items() if data_root.startswith(folder)})


def digest(row: str, entries: Mapping[str, Entry], values: Mapping[str, Any]) -> str:
    """What decides a row's figures beside its data: code, commands and params of its stages, as a short hash.

    values : of the preset, nested
    """
    state = hashlib.sha256()
    for name in stages_of(row, entries, str(overlay.at(values, "data.root"))):
        entry = entries[name]
        settings = {key: overlay.at(values, key) for key in sorted(entry.params)}
        state.update(repr((name, entry.script, entry.words, sorted(entry.roles.items()), settings)).encode())
        for dep in sorted(dep for dep in entry.deps if f"{dep}/".startswith(("lib/", "stages/"))):
            files = sorted(Path(dep).rglob("*.py")) if Path(dep).is_dir() else [Path(dep)]
            for path in files:
                state.update(f"{path}\0".encode() + path.read_bytes())
    return state.hexdigest()[:16]


def record(row: str, home: Path, commit: str, code: str) -> None:
    """Says in `rows.json` where the figures of a row come from."""
    path = home / "rows.json"
    rows = tables.read_json(path) if path.exists() else {}
    rows[row] = {"commit": commit, "processor": processor(), "code": code, "stale": False}
    tables.write_json(path, dict(sorted(rows.items())))


def mark_stale(entries: Mapping[str, Entry], values: Mapping[str, Any], home: Path) -> list[str]:
    """Brings `stale` of all rows in `rows.json` up to date, and returns those that are; a row that dvc.yaml has no
    longer is stale."""
    path = home / "rows.json"
    if not path.exists():
        return []
    rows = tables.read_json(path)
    for row, origin in rows.items():
        origin["stale"] = f"{ROW}{row}" not in entries or digest(row, entries, values) != origin["code"]
    tables.write_json(path, rows)
    if stale := [row for row, origin in rows.items() if origin["stale"]]:
        print(f"stale, as their code or params changed since: {', '.join(stale)}", flush=True)
    return stale


def processor() -> str:
    """Name of the processor and the number of its cores."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor())}, {os.cpu_count()} cores"


if __name__ == "__main__":
    sys.exit(main())
