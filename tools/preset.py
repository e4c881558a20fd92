"""Runs a preset in a copy of the working tree and copies its figures back: what `make preset NAME=bccd` calls.

    python -m tools.preset NAME

The copy is `.scratch/presets/NAME`, a repository of its own with the params.yaml that `make params` would write.
Nothing here is touched: not params.yaml, not data/, not dvc.lock. The copy stays, so a killed run resumes and a second
run does only what has changed. It shares this repository's DVC cache. Afterwards `results/presets/NAME` holds the
copy's metrics, METHOD.json and proposals/, and the folders cost/ and speed/.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib.stage import overlay
from lib.stage.errors import InputError
from tools.params import written

# Not needed in a copy, or of this repository's own runs: its lock would make the copy's finished work look undone.
LEFT_OUT = ("results/", "tests/", "docs/", "params.yaml")
PRODUCED = "data/*/VOCdevkit"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a file in presets/, without .yaml")
    name = parser.parse_args().name
    root = Path.cwd()
    try:
        text = own_params(name)
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    copy = root / ".scratch/presets" / name
    bring(root, copy)
    (copy / "params.yaml").write_text(text, encoding="utf-8")
    connect(root, copy)
    print(f"preset {name} runs in {copy}", flush=True)
    code = subprocess.run(["dvc", "repro"], cwd=copy, env=environment(), check=False).returncode
    if code == 0:
        for path in collect(copy / "results", root / "results/presets" / name):
            print(path.relative_to(root))
    return code


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
        if name and (root / name).is_file() and not name.startswith(LEFT_OUT) and not name.endswith("dvc.lock")
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


def own_params(name: str, folder: Path = overlay.FOLDER) -> str:
    """The copy's params.yaml: the preset's, with paths of the user's own made absolute. Raises InputError."""
    values, root = overlay.values(name, folder), folder.parent
    own: dict[str, Any] = {}
    for block, key in (("data", "root"), ("m0", "weights")):
        path = Path(str(values.get(block, {}).get(key, "")))
        if path.parts and not path.match(PRODUCED) and not path.is_absolute() and (root / path).exists():
            own[f"{block}.{key}"] = str((root / path).resolve())
    return written(name, folder, own)


def connect(root: Path, copy: Path) -> None:
    """A Git repository, as DVC wants one, and the DVC cache of `root`."""
    if not (copy / ".git").exists():
        subprocess.run(["git", "init", "--quiet"], cwd=copy, env=environment(), check=True)
    printed = subprocess.run(
        ["dvc", "cache", "dir"], cwd=root, env=environment(), capture_output=True, text=True, check=True
    ).stdout
    cache = (root / printed.strip()).resolve()
    subprocess.run(["dvc", "cache", "dir", "--local", str(cache)], cwd=copy, env=environment(), check=True)


def collect(results: Path, home: Path) -> Iterable[Path]:
    """Copies metrics, costs and speeds of a finished run; what an earlier run left there is deleted."""
    shutil.rmtree(home, ignore_errors=True)
    for folder, target in (("metrics", home), ("cost", home / "cost"), ("speed", home / "speed")):
        for path in sorted((results / folder).rglob("*.json")):
            copied = target / path.relative_to(results / folder)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copied)
            yield copied


if __name__ == "__main__":
    sys.exit(main())
