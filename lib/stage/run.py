"""A stage's life: what it may see, where it works, how it ends.

A stage sees only what dvc.yaml declares for it. It works in a scratch folder keyed by stage, params, inputs and code,
so that the run after a kill resumes there, and moves its outs into place at the very end.
"""

import errno
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from lib.stage import params as params_file
from lib.stage import pipeline, process
from lib.stage.errors import Fault, InputError
from lib.stage.schemas import UNTRACKED, Schema, check_once, keys
from lib.storage.tables import read_json, write_json

SCRATCH = Path(".scratch")
T = TypeVar("T")


class Life:
    """What a stage's `main` receives.

    name, item : address of the stage; the first word after the module in its command, or ""
    params     : dotted key -> checked value, exactly the keys that dvc.yaml declares
    compute    : where to work
    data_root  : where the images are. Not tracked by the stages after `prepare`: the tables hold each image's hash, and
                 reading checks it, so moving a data set reruns nothing and changing an image reruns all it affects
    scratch    : folder for resumable pieces, kept between a kill and the next run of the same work
    """

    def __init__(
        self, entry: pipeline.Entry, params: Mapping[str, Any], compute: params_file.Compute, data_root: str
    ) -> None:
        self.entry, self.name = entry, entry.name
        self.item = (*entry.words, "")[0]
        self.compute, self.data_root = compute, data_root
        self.params = _Declared(entry, params)
        home = SCRATCH / entry.name.replace("/", "+")
        home.mkdir(parents=True, exist_ok=True)
        self._lock = process.Lock(home / "lock", entry.name)
        self.scratch = home / fingerprint(entry, params)
        for stale in home.iterdir():
            if stale.is_dir() and stale != self.scratch:
                shutil.rmtree(stale)
        self.resumed = self.scratch.exists()
        self.scratch.mkdir(exist_ok=True)
        self._outs = self.scratch / "outs"
        self._items = 0
        self._start = time.monotonic() - self._spent()

    def dep(self, path: str) -> Path:
        """A declared input, or a file inside one. Raises LookupError where dvc.yaml does not name it."""
        if not _covered(path, self.entry.deps):
            raise LookupError(f"{self.name} reads {path}, but dvc.yaml does not list it among its deps")
        if not Path(path).exists():
            raise InputError([Fault("missing input", path, "is not there", "", "Run: dvc repro")])
        return Path(path)

    def role(self, name: str) -> str:
        """The value of a role in the stage's command. Raises LookupError where the command does not set it."""
        if name not in self.entry.roles:
            raise LookupError(f"{self.name} reads the role {name}=, which its command in dvc.yaml does not set")
        return self.entry.roles[name]

    def input(self, role: str) -> Path:
        """The declared input in a role; see `dep`."""
        return self.dep(self.role(role))

    def out(self, path: str) -> Path:
        """Where to write a declared output (or a file inside one) until it is published."""
        if not _covered(path, self.entry.outs):
            raise LookupError(f"{self.name} writes {path}, but dvc.yaml does not list it among its outs")
        target = self._outs / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def previous(self, path: str) -> Path | None:
        """The last published version of a `persist: true` output, if there is one."""
        if path not in self.entry.persist:
            raise LookupError(f"{path} is not a persist out of {self.name}")
        return Path(path) if Path(path).exists() else None

    def announce(self, work: str, disk: int = 0, memory: int = 0) -> None:
        """Prints what the stage will need before it starts. Raises InputError if the disk is too small.

        disk, memory : bytes
        """
        costs = [f"disk {disk / 2**20:,.0f} MiB"] * bool(disk) + [f"memory {memory / 2**20:,.0f} MiB"] * bool(memory)
        print(f"{self.name}: {', '.join([work, *costs])}{' (resuming an earlier run)' * self.resumed}", flush=True)
        free = shutil.disk_usage(SCRATCH).free
        if disk > free:
            problem = f"needs {disk / 2**30:.1f} GiB of disk and {free / 2**30:.1f} GiB are free"
            remedy = "Free some space, or lower proposals.max_boxes or the size of what is stored"
            raise InputError([Fault("disk full", self.name, problem, "", remedy)])

    def progress(self, items: Iterable[T], total: int, unit: str, done: int = 0) -> Iterator[T]:
        """The items under a progress bar with the time left; counts them for the cost record."""
        with tqdm(total=total, initial=done, unit=unit, desc=self.name, mininterval=2, dynamic_ncols=True) as bar:
            for item in items:
                yield item
                self.tick(1)
                bar.update()

    def tick(self, count: int) -> None:
        """Counts finished items and notes the time spent, which a resumed run adds to its own."""
        self._items += count
        now = time.monotonic()
        if now - getattr(self, "_noted", 0.0) > 5:
            self._noted = now
            write_json(self.scratch / "spent.json", {"seconds": now - self._start, "items": self._items})

    def _spent(self) -> float:
        try:
            spent = read_json(self.scratch / "spent.json")
        except InputError:
            return 0.0
        self._items = int(spent["items"])
        return float(spent["seconds"])

    def publish(self) -> None:
        """Moves every declared output into place and drops the scratch folder."""
        cost = f"results/cost/{self.name}.json"
        if cost in self.entry.outs:
            seconds = time.monotonic() - self._start
            write_json(
                self.out(cost),
                {
                    "seconds": round(seconds, 2),
                    "images_per_second": round(self._items / seconds, 3) if self._items else None,
                    "peak_memory_mib": round(process.peak_memory() / 2**20),
                },
            )
        missing = [path for path in self.entry.outs if not (self._outs / path).exists()]
        if missing:
            raise LookupError(f"{self.name} did not write {missing}, which dvc.yaml lists among its outs")
        for path in self.entry.outs:
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            os.replace(self._outs / path, target)
        shutil.rmtree(self.scratch)


class _Declared(dict[str, Any]):
    """The params of one stage; reading another one is an error that says which line is missing."""

    def __init__(self, entry: pipeline.Entry, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._entry = entry

    def __missing__(self, key: str) -> Any:
        raise LookupError(f"{self._entry.name} reads {key}, but dvc.yaml does not list it among its params")


def stage(main: Callable[[Life], None], schema: Schema, schemas: Callable[[], Mapping[str, Schema]]) -> None:
    """Runs one stage from its lock to its published outs.

    main    : does the work
    schema  : what the stage reads of params.yaml, see `schemas.keys`;  schemas : the same of every stage by its address

    An InputError and a full disk are printed without a traceback and end the process with code 1.
    """
    try:
        entry = _entry()
        process.follow_parent()
        values = params_file.load()
        check_once(values, schemas, SCRATCH)
        checked = params_file.validate(values, {**keys(schema, entry), **UNTRACKED})
        untracked = [checked.pop(key) for key in UNTRACKED]
        life = Life(entry, checked, *untracked)
        main(life)
        life.publish()
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        remedy = "Free some (.scratch/STAGE holds what is done), and run the same again: it goes on from there"
        where = error.filename or os.environ["DVC_STAGE"]
        fault = Fault("disk full", where, "no space is left on the disk", "", remedy)
        print(f"ERROR: {fault}", file=sys.stderr, flush=True)
        raise SystemExit(1) from None


def _entry() -> pipeline.Entry:
    name = os.environ.get("DVC_STAGE", "")
    if name not in pipeline.entries():
        raise InputError(
            [Fault("no stage", "DVC_STAGE", f"is {name!r}", f"a stage of dvc.yaml: {', '.join(pipeline.entries())}",
                   "Run stages through DVC: dvc repro NAME")]
        )
    return pipeline.entries()[name]


def fingerprint(entry: pipeline.Entry, params: Mapping[str, Any]) -> str:
    """Key of the scratch folder: stage, params, inputs and code.

    Small files count by content; large ones by size and modification time, which a plain rerun does not change.
    """
    digest = hashlib.sha256(repr((entry, sorted((key, repr(value)) for key, value in params.items()))).encode())
    for dep in entry.deps:
        root = Path(dep)
        for path in sorted(root.rglob("*")) if root.is_dir() else [root]:
            if path.is_file() and "__pycache__" not in path.parts:
                stat = path.stat()
                small = stat.st_size < 2**20 and path.suffix in {".py", ".json", ".yaml", ".parquet"}
                state = hashlib.sha256(path.read_bytes()).hexdigest() if small else f"{stat.st_size} {stat.st_mtime_ns}"
                digest.update(f"{path} {state}\n".encode())
    return digest.hexdigest()[:16]


def _covered(path: str, declared: Iterable[str]) -> bool:
    return any(path == known or path.startswith(f"{known}/") for known in declared)
