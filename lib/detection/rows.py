"""The rows of `detect` in dvc.yaml: which module, settings, regions and models make a method."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from lib.stage.errors import Fault, InputError
from lib.stage.params import suggestion
from lib.stage.pipeline import Entry


@dataclass(frozen=True)
class Row:
    """The words of a row's command and the models among its deps.

    module  : of lib/detectors;  block : dotted params key of its settings
    regions : params key of where its regions come from;  models : paths, all of which exist
    """

    module: ModuleType
    block: str
    regions: str
    models: list[Path]


def row(method: str, entries: Mapping[str, Entry]) -> Row:
    """The row of a method (`pipeline.entries`). Raises InputError for an unknown method and for models not yet made."""
    known = [name.removeprefix("detect@") for name in entries if name.startswith("detect@")]
    if method not in known:
        raise InputError(
            [Fault("unknown method", "--method", f"is {method!r}", ", ".join(known), suggestion(method, known) or "Choose one")]
        )
    entry = entries[f"detect@{method}"]
    models = [Path(dep) for dep in entry.deps if dep.startswith("data/models/")]
    faults = [
        Fault("missing model", str(path), "is not there", "", f"Run: dvc repro detect@{method}")
        for path in models
        if not path.exists()
    ]
    if faults:
        raise InputError(faults)
    _, module, block, regions = entry.args
    return Row(import_module(f"lib.detectors.{module}"), block, regions, models)
