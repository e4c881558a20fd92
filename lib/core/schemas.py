"""Which keys of params.yaml each stage reads, and the check of all of them at once."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from lib.core import params as params_file
from lib.core import pipeline
from lib.core.errors import Fault, InputError

UNTRACKED = {"compute": params_file.Compute, "data.root": str}  # read by every stage, may not change a result
Schema = Mapping[str, Any] | Callable[..., Mapping[str, Any]]


def keys(schema: Schema, args: Sequence[str]) -> dict[str, Any]:
    """The schema of one row: `{item}` and `{1}` in its keys replaced by the words of its command."""
    schema = schema(*args) if callable(schema) else schema
    return {key.format(*args, item=args[0] if args else ""): kind for key, kind in schema.items()}


def check_all(values: Mapping[str, Any], scratch: Path) -> None:
    """Checks the params of every stage, so that a slip in a late block stops the first stage, not the tenth.

    The stages' modules are imported by name here, outside any stage's import closure: nothing of them reaches a
    result. A stamp in the scratch folder keeps later stages of the same `dvc repro` from doing it again.
    """
    files = [Path("dvc.yaml"), Path(params_file.FILE), *sorted(Path("stages").glob("*.py"))]
    stamp = scratch / f"params-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:16]}"
    if stamp.exists():
        return
    if found := faults(values):
        raise InputError(found)
    scratch.mkdir(exist_ok=True)
    for stale in scratch.glob("params-*"):
        stale.unlink(missing_ok=True)
    stamp.touch()


def faults(values: Mapping[str, Any], path: str = params_file.FILE) -> list[Fault]:
    """Everything that is wrong with the params of any stage, each fault once; `path` stands in the messages."""
    found: dict[Fault, None] = {}
    entries = pipeline.entries().values()
    for entry in entries:
        schema = keys(import_module(entry.script).PARAMS, entry.args)
        if set(schema) != set(entry.params):
            raise LookupError(f"{entry.name}: dvc.yaml declares {sorted(entry.params)}, {entry.script} {sorted(schema)}")
        try:
            params_file.validate(values, {**schema, **UNTRACKED}, path)
        except InputError as error:
            found |= dict.fromkeys(error.faults)
    declared = {key for entry in entries for key in entry.params} | set(UNTRACKED)
    return list(found | dict.fromkeys(params_file.unread(values, declared, path)))
