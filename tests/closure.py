"""Which code of ours a stage's script runs, as the deps that dvc.yaml names: folders of lib, files of lib/detectors.

`python -m tests.closure` prints the code deps of every stage.
"""

import ast
from functools import cache
from pathlib import Path

from lib.stage import pipeline
from lib.stage.pipeline import Entry

MACHINERY = ("lib/stage/", "lib/parallel/", "stages/schemas.py")  # changes no result


@cache
def imports(path: str) -> frozenset[str]:
    """Files under lib and stages that one file imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {file for name in names if (file := name.replace(".", "/") + ".py") and Path(file).is_file()}
    return frozenset(found)


def by_name(entry: Entry) -> set[str]:
    """Modules that a script imports by what stands in its command: the row's detector, the task of a training."""
    task, detector = entry.roles.get("task"), entry.roles.get("detector")
    found = {f"lib/detectors/{task.replace('.', '/')}.py"} if task else set()
    if detector:
        module = {"stages.detect": "detector", "stages.visualize": "explain"}.get(entry.script, "network")
        found.add(f"lib/detectors/{detector}/{module}.py")
    return found


def closure(entry: Entry) -> set[str]:
    """Files that a stage runs, machinery left out."""
    todo, done = {entry.script.replace(".", "/") + ".py", *by_name(entry)}, set[str]()
    while todo:
        path = todo.pop()
        done.add(path)
        todo |= imports(path) - done
    return {path for path in done if not path.startswith(MACHINERY)}


def dep_of(path: str) -> str:
    """The dep that stands for a file: its package, or itself in lib/detectors, at the top of lib, and in stages."""
    parts = path.split("/")
    return path if len(parts) < 3 or parts[1] == "detectors" else "/".join(parts[:2])


def code_deps(entry: Entry) -> set[str]:
    """The code deps of a stage."""
    return {dep_of(path) for path in closure(entry)}


if __name__ == "__main__":
    for name, entry in pipeline.entries().items():
        print(f"{name}:")
        for path in sorted(code_deps(entry)):
            print(f"      - {path}")
