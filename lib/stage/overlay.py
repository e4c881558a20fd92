"""Overlays: what a preset or a row of an experiment changes in the params, in one format read by one function.

    base: OTHER                         the preset that this one builds on; without it, the default, the full file
    set:
      faster.anchors.ratios: [1.0]      dotted keys of params.yaml, each with its whole new value
      rcnn.finetune.schedule: {name: step, every: 20000, gamma: 0.1}      a shape changes as a whole,
      spp.finetune.schedule.warmup: 0.2                                   or in one key that it has
"""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lib.stage import params
from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings

FOLDER = Path("presets")
DEFAULT = "default"  # presets/default.yaml holds every value; what params.yaml says now may be somebody's edit


class Overlay(Settings):
    """set : dotted key of params.yaml -> its new value"""

    set: dict[str, Any]


class Preset(Overlay):
    """base : name of the preset that this one builds on"""

    base: str = DEFAULT


Kind = TypeVar("Kind", bound=Overlay)


def read(path: Path, kind: type[Kind]) -> Kind:
    """An overlay file. Raises InputError where it is not YAML, and for unknown, duplicate or nested keys."""
    overlay: Kind = params.validate(params.load(path), {"": kind}, str(path))[""]
    faults = [
        Fault("set twice", f"{path}: {key}", f"is set by {above} too", "", "Keep one of the two")
        for key in overlay.set for above in overlay.set if key.startswith(f"{above}.")
    ]
    if faults:
        raise InputError(faults)
    return overlay


def apply(values: Mapping[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The params with some dotted keys changed. Raises InputError with all keys that the params do not have.

    values  : what `params.load` returned; stays as it is
    changes : dotted key -> new value, which replaces the old one as a whole
    where   : file of the changes, for messages
    """
    result = copy.deepcopy(dict(values))
    known, faults = set(params.leaves(values)), []
    for key, value in changes.items():
        *parents, last = key.split(".")
        block: Any = result
        for part in parents:
            block = block.get(part) if isinstance(block, dict) else None
        if isinstance(block, dict) and last in block:
            block[last] = copy.deepcopy(value)
        elif isinstance(block, dict) and "name" in block:
            shape = ".".join(parents)
            problem = f"is not in params.yaml: {shape} is {_shown(block)}"
            faults.append(Fault("unknown setting", f"{where}: {key}", problem, "", f"Set {shape} as a whole"))
        else:
            remedy = params.suggestion(key, known) or "Correct the key"
            faults.append(Fault("unknown setting", f"{where}: {key}", "is not in params.yaml", "", remedy))
    if faults:
        raise InputError(faults)
    return result


def names(folder: Path = FOLDER) -> list[str]:
    """The presets, the default among them."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def preset(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """What a preset changes in the default, its bases' changes included: dotted key -> value; nothing for the default.

    Raises InputError for an unknown name, bases in a circle, and unknown keys.
    """
    full = params.load(folder / f"{DEFAULT}.yaml")
    keys: dict[str, None] = {}
    for path, overlay in reversed(_chain(name, folder)):
        full = apply(full, overlay.set, str(path))
        keys |= dict.fromkeys(overlay.set)
    # Where one overlay sets a shape and a later one a key in it, the shape alone is listed: its value holds both.
    return {key: at(full, key) for key in keys if not any(key.startswith(f"{other}.") for other in keys)}


def values(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Every value of a preset, as `params.load` would find it in a full file. Raises what `preset` raises."""
    return apply(params.load(folder / f"{DEFAULT}.yaml"), preset(name, folder), f"{folder}/{name}.yaml")


def _chain(name: str, folder: Path) -> list[tuple[Path, Preset]]:
    """A preset and those it builds on, without the default; the last one builds on the default itself."""
    chain: list[tuple[Path, Preset]] = []
    seen: list[str] = []
    while name != DEFAULT:
        if name not in (known := names(folder)):
            where = f"{chain[-1][0]}: base" if chain else f"{folder}/{name}.yaml"
            problem = f"is {name!r}, which is no preset" if chain else "is not there"
            remedy = params.suggestion(name, known) or "Choose one"
            raise InputError([Fault("unknown preset", where, problem, ", ".join(known), remedy)])
        if name in seen:
            problem = f"is {name!r}, which builds on it: {' > '.join([*seen, name])}"
            allowed = "a chain that ends with the default"
            raise InputError([Fault("circular base", f"{chain[-1][0]}: base", problem, allowed, "Remove one base")])
        seen.append(name)
        path = folder / f"{name}.yaml"
        chain.append((path, read(path, Preset)))
        name = chain[-1][1].base
    return chain


def at(values: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key that is there."""
    value: Any = values
    for part in key.split("."):
        value = value[part]
    return value


def _shown(shape: Mapping[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {value}' for key, value in shape.items())}}}"
