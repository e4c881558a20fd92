"""Stages started without DVC and without the seconds in which Python imports torch, timm, Numba and DVC.

`python warm.py` imports what stages import, then forks once for each line of its input: the fork runs a stage as
`python -m stages.VERB` would, in a process of its own that can be killed. For tests that run many stages of a second;
the run that all tests share starts its stages in the ordinary way, so an import that a stage lacks is found there.
"""

import json
import os
import runpy
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Self


class Starter:
    """The process that forks, with one folder as its own."""

    def __init__(self, folder: Path, environment: dict[str, str], outputs: Path) -> None:
        self._outputs, self._count = outputs, 0
        self._process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, env={**environment, "PYTHONPATH": str(folder)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate("")

    def run(self, words: list[str], environment: dict[str, str], hook: str = "") -> subprocess.CompletedProcess:
        """Like `python -m WORDS` after the code `hook`; the return code of a killed process is minus the signal."""
        self._count += 1
        out = self._outputs / f"{self._count}.out"
        print(json.dumps([words, environment, hook, str(out)]), file=self._process.stdin, flush=True)
        code = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
        return subprocess.CompletedProcess(words, code, out.read_text())


def _import_all() -> None:
    """What the stages import, and what they import late."""
    for path in sorted([*Path("stages").glob("*.py"), *Path("lib").rglob("*.py")]):
        if path.stem != "__init__":
            import_module(".".join(path.with_suffix("").parts))
    for late in ("dvc.repo", "timm", "torch._dynamo", "numba.core.registry"):
        import_module(late)


def _become(words: list[str], environment: dict[str, str], hook: str, out: str) -> None:
    descriptor = os.open(out, os.O_WRONLY | os.O_CREAT)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(environment)
    exec(hook, {})
    module, *rest = words
    sys.argv = [module, *rest]
    del sys.modules[module]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _serve() -> None:
    _import_all()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _become(*json.loads(line))
            return
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    _serve()
