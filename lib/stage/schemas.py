"""Which keys of params.yaml each stage reads, and the check of all of them at once."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from lib.stage import params as params_file
from lib.stage import pipeline
from lib.stage.errors import Fault, InputError

UNTRACKED = {"compute": params_file.Compute, "data.root": str}  # read by every stage, may not change a result
Schema = Mapping[str, Any] | Callable[..., Mapping[str, Any]]
Word = Annotated[str, Field(pattern=r"^[^\s'\"]+$")]  # a word of a command: with a blank in it, it would be two


def keys(schema: Schema, entry: pipeline.Entry) -> dict[str, Any]:
    """The schema of one row of dvc.yaml.

    schema : a function of the words and roles of the row's command, or a mapping, in whose keys `{item}` stands for the
             first word
    """
    if callable(schema):
        return dict(schema(*entry.words, **entry.roles))
    return {key.format(item=(*entry.words, "")[0]): kind for key, kind in schema.items()}


def interpolated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys whose values dvc.yaml itself puts into deps and commands, all of them text (`${proposals.table}`)."""
    text, known = Path("dvc.yaml").read_text(encoding="utf-8"), {*params_file.leaves(values)}
    named, words = (set(re.findall(pattern, text)) & known for pattern in (r"\$\{([\w.]+)\}", r"=\$\{([\w.]+)\}"))
    return {key: Word if key in words else str for key in sorted(named)}


def faults(values: Mapping[str, Any], schemas: Mapping[str, Schema], path: str = params_file.FILE) -> list[Fault]:
    """Everything that is wrong with the params of any stage, each fault once.

    values : what `params.load` returned;  schemas : of each stage by its address;  path : their file, for the messages
    """
    read = {**UNTRACKED, **interpolated(values)}
    try:
        params_file.validate(values, read, path)
    except InputError as error:
        return error.faults  # the commands themselves are broken: what they would say of the others is no help
    distinct: dict[Fault, None] = {}
    entries = pipeline.entries()
    for name, entry in entries.items():
        schema = keys(schemas[name], entry)
        distinct |= dict.fromkeys(_undeclared(entry, schema))
        try:
            params_file.validate(values, {**schema, **read}, path)
        except InputError as error:
            distinct |= dict.fromkeys(error.faults)
    declared = {key for entry in entries.values() for key in entry.params} | set(read)
    return list(distinct | dict.fromkeys(params_file.unread(values, declared, path)))


def _undeclared(entry: pipeline.Entry, schema: Mapping[str, Any]) -> list[Fault]:
    """A stage sees what dvc.yaml declares, and DVC tracks just that: so the two lists must be one."""
    where, faults = f"dvc.yaml: {entry.name}: params", []
    read, declared = set(schema), set(entry.params)
    if missing := sorted(read - declared):
        problem = f"lacks {', '.join(missing)}, which {entry.script} reads"
        faults.append(Fault("undeclared params", where, problem, "", "Add them there"))
    if unused := sorted(declared - read):
        problem = f"lists {', '.join(unused)}, which {entry.script} does not read"
        faults.append(Fault("undeclared params", where, problem, ", ".join(sorted(read)), "Remove them there"))
    return faults


def check_once(values: Mapping[str, Any], schemas: Callable[[], Mapping[str, Schema]], scratch: Path) -> None:
    """Raises InputError with all `faults`, so that a typo in a late block stops the first stage, not the tenth.

    A stamp in the scratch folder spares the later stages of the same `dvc repro` the check.
    """
    code = sorted(path for folder in ("stages", "lib") for path in Path(folder).rglob("*.py"))
    files = [Path("dvc.yaml"), Path(params_file.FILE), *code]
    stamp = scratch / f"params-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:16]}"
    if stamp.exists():
        return
    if problems := faults(values, schemas()):
        raise InputError(problems)
    scratch.mkdir(exist_ok=True)
    for stale in scratch.glob("params-*"):
        stale.unlink(missing_ok=True)
    stamp.touch()
