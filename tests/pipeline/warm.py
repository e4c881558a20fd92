"""Stages started without the seconds in which Python imports torch, timm, Numba and DVC.

`python warm.py serve SOCKET` imports what stages import of others, then forks once for each request: the fork takes the
folder, environment and files of the process that asks and runs a module there as `python -m` would, in a process of its
own that can be killed. Nothing of `lib` and `stages` is imported before, so each stage does that by itself.

`Starter.path` is a folder for PATH whose `python` asks for such a fork. The first run of each script is an ordinary
process all the same, so that an import of others that it lacks is found.
"""

import gc
import json
import os
import runpy
import select
import shlex
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Self

LATE = (  # what stages import of others: themselves, or on the first use of something
    "captum.attr", "cv2", "dvc.repo", "faster_coco_eval", "joblib.externals.loky", "numba.core.registry", "pandas",
    "psutil", "pyarrow.parquet", "pydantic.json_schema", "ruamel.yaml", "scipy.stats", "sklearn.datasets",
    "sklearn.svm", "timm", "torch._dynamo", "torchvision", "tqdm",
)


class Starter:
    """The process that forks, of a session of tests.

    begun : folder that notes which scripts have run as ordinary processes
    """

    def __init__(self, environment: dict[str, str], folder: Path, begun: Path) -> None:
        self.path, self._address, self._outputs, self._count = folder / "bin", folder / "socket", folder, 0
        self.path.mkdir()
        words = [sys.executable, "-IS", __file__, "ask", str(self._address), str(begun)]
        (self.path / "python").write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        (self.path / "python").chmod(0o755)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", str(self._address)], env=environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._process.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def run(self, folder: Path, words: list[str], environment: dict[str, str], hook: str = "") -> Any:
        """`python -m WORDS` after the code `hook`; the return code of a killed process is minus the signal."""
        self._count += 1
        out = self._outputs / f"{self._count}.out"
        with open(out, "w") as file, open(os.devnull) as nothing:
            files = nothing.fileno(), file.fileno(), file.fileno()
            code = request(str(self._address), [words, str(folder), environment, hook], files)
        return subprocess.CompletedProcess(words, code, out.read_text())


def request(address: str, wanted: list[Any], files: Sequence[int]) -> int:
    """Return code of a fork with these files as its standard input, output and errors."""
    text = json.dumps(wanted).encode()
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(address)
        socket.send_fds(link, [len(text).to_bytes(8)], files)
        link.sendall(text)
        return int(link.makefile().readline())


def _ask(address: str, begun: str, *words: str) -> None:
    with suppress(FileExistsError):
        os.close(os.open(os.path.join(begun, words[1]), os.O_CREAT | os.O_EXCL))
        os.execvp(sys.executable, [sys.executable, *words])
    code = request(address, [words[1:], os.getcwd(), dict(os.environ), ""], (0, 1, 2))
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _serve(address: str) -> None:
    for module in LATE:
        import_module(module)
    gc.freeze()  # a fork that ends would search all of it for cycles, for more time than its stage takes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([server, sys.stdin], [], [])
            if sys.stdin in ready:
                return  # who started us has ended, however it ended
            link, _ = server.accept()
            if not os.fork():
                break
            link.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:  # those that have answered
                    pass
    length, files, *_ = socket.recv_fds(link, 8, 3)
    wanted = json.loads(link.makefile().read(int.from_bytes(length)))
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        link.sendall(f"{code}\n".encode())
        os._exit(0)
    link.close()
    _become(files, *wanted)


def _become(files: list[int], words: list[str], folder: str, environment: dict[str, str], hook: str) -> None:
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    exec(hook, {})
    sys.argv, sys.path[0] = words, folder
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    {"serve": _serve, "ask": _ask}[sys.argv[1]](*sys.argv[2:])
