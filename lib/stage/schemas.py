"""Which keys of params.yaml each stage reads, and the check of all of them at once."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lib.stage import params as params_file
from lib.stage import pipeline
from lib.stage.errors import Fault, InputError

UNTRACKED = {"compute": params_file.Compute, "data.root": str}  # read by every stage, may not change a result
Schema = Mapping[str, Any] | Callable[..., Mapping[str, Any]]


def keys(schema: Schema, entry: pipeline.Entry) -> dict[str, Any]:
    """The schema of one row of dvc.yaml.

    schema : a function of the words and roles of the row's command, or a mapping, in whose keys `{item}` stands for the
             first word
    """
    if callable(schema):
        return dict(schema(*entry.words, **entry.roles))
    return {key.format(item=(*entry.words, "")[0]): kind for key, kind in schema.items()}


def interpolated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose values dvc.yaml itself puts into commands and deps, all of them text (`${proposals.table}`)."""
    named = re.findall(r"\$\{([\w.]+)\}", Path("dvc.yaml").read_text(encoding="utf-8"))
    return {key: str for key in sorted({*named} & {*params_file.leaves(values)})}


def faults(values: Mapping[str, Any], schemas: Mapping[str, Schema], path: str = params_file.FILE) -> list[Fault]:
    """Everything that is wrong with the params of any stage, each fault once.

    values : what `params.load` returned;  schemas : of each stage by its address;  path : their file, for the messages
    """
    distinct: dict[Fault, None] = {}
    entries, read = pipeline.entries(), {**UNTRACKED, **interpolated(values)}
    for name, entry in entries.items():
        schema = keys(schemas[name], entry)
        if set(schema) != set(entry.params):
            raise LookupError(f"{name}: dvc.yaml declares {sorted(entry.params)}, {entry.script} {sorted(schema)}")
        try:
            params_file.validate(values, {**schema, **read}, path)
        except InputError as error:
            distinct |= dict.fromkeys(error.faults)
    declared = {key for entry in entries.values() for key in entry.params} | set(read)
    return list(distinct | dict.fromkeys(params_file.unread(values, declared, path)))


def check_once(values: Mapping[str, Any], schemas: Callable[[], Mapping[str, Schema]], scratch: Path) -> None:
    """Raises InputError with all `faults`, so that a typo in a late block stops the first stage, not the tenth.

    A stamp in the scratch folder spares the later stages of the same `dvc repro` the check.
    """
    files = [Path("dvc.yaml"), Path(params_file.FILE), *sorted(Path("stages").glob("*.py"))]
    stamp = scratch / f"params-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:16]}"
    if stamp.exists():
        return
    if problems := faults(values, schemas()):
        raise InputError(problems)
    scratch.mkdir(exist_ok=True)
    for stale in scratch.glob("params-*"):
        stale.unlink(missing_ok=True)
    stamp.touch()
