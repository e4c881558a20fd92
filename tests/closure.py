"""Which files of ours a stage's script imports, directly or through others; and the lines for dvc.yaml.

`python -m tests.closure` prints the deps of every stage that are code.
"""

import ast
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lib.core import pipeline


@cache
def imports(path: str) -> frozenset[str]:
    """Files under lib and stages that one file imports, wherever in it the import stands, and pages' parts beside it."""
    found: set[str] = set()
    if not path.endswith(".py"):
        return frozenset()
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and str(node.value).endswith((".css", ".html", ".js")):
            beside = Path(path).parent / str(node.value)
            found |= {beside.as_posix()} if beside.is_file() else set()
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {file for name in names if (file := name.replace(".", "/") + ".py") and Path(file).is_file()}
    return frozenset(found)


def closure(script: str, args: Sequence[str]) -> set[str]:
    """Code that a stage runs: `python -m SCRIPT WORD...`. A row's detector is imported by its name, one of the words."""
    todo = {script.replace(".", "/") + ".py"}
    text = Path(script.replace(".", "/") + ".py").read_text(encoding="utf-8")
    if 'import_module(f"lib.detectors.' in text:
        todo |= {path for word in args if Path(path := f"lib/detectors/{word}.py").is_file()}
    done: set[str] = set()
    while todo:
        path = todo.pop()
        done.add(path)
        todo |= imports(path) - done
    return done


if __name__ == "__main__":
    for name, entry in pipeline.entries().items():
        print(f"{name}:")
        for path in sorted(closure(entry.script, entry.args)):
            print(f"      - {path}")
