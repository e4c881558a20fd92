"""params.yaml, read one way and checked before any work.

YAML 1.2 as DVC reads it (`1e-3` is a number, `no` is text), every block checked against the types that a stage
declares: unknown keys, wrong types and values out of range are reported together, each with a suggestion.
"""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lib.stage.errors import Fault, InputError

FILE = "params.yaml"
Split = Literal["train", "val", "test"]
Seed = Annotated[int, Field(ge=0)]  # numpy takes no negative seed


class Settings(BaseModel):
    """Base of every params block: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _device(word: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", word):
        allowed = "auto, cpu, cuda, cuda:1 ..., mps"
        raise PydanticCustomError("device", "{expected}", {"expected": allowed})
    return word


class Compute(Settings):
    """The block `compute`: where the work is done. Read by all stages, tracked by none: it changes no result."""

    device: Annotated[str, AfterValidator(_device)]
    workers: Literal["auto"] | Annotated[int, Field(ge=0)]
    launcher: Literal["loky", "multiprocessing", "threading", "dask"]
    memory_gib: float = Field(gt=0)


def load(path: Path | str = FILE) -> dict[str, Any]:
    """The file as nested dicts. Raises InputError for a missing or broken file and for NaN or infinity."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(
            [Fault("missing file", str(path), "the file is not there", "",
                   "Restore it: cp presets/default.yaml params.yaml")]
        ) from None
    try:
        values = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError([Fault("broken YAML", str(path), f"cannot be read: {error}", "YAML 1.2", "Fix it")]) from error
    if not isinstance(values, dict):
        raise InputError([Fault("broken YAML", str(path), "holds no blocks", "key: value lines", "Fix it")])
    faults = [
        Fault("not finite", f"{path}: {key}", f"is {value}", "a finite number", "Write a number")
        for key, value in leaves(values).items()
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if faults:
        raise InputError(faults)
    return values


def leaves(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one dict with dotted keys; an empty block is a leaf."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= leaves(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def validate(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = FILE) -> dict[str, Any]:
    """Each dotted key of `schema` with its checked, typed value.

    values : what `load` returned
    schema : dotted key -> type (a `Settings` class, or anything pydantic knows); the key "" is the whole file
    Raises InputError with every fault of every block.
    """
    faults: list[Fault] = []
    checked: dict[str, Any] = {}
    for key, kind in schema.items():
        present, value = _lookup(values, key)
        if not present:
            near = suggestion(key, _all_keys(values))
            faults.append(Fault("missing setting", f"{path}: {key}", "is missing", "", near or "Add it; see presets/"))
            continue
        try:
            checked[key] = TypeAdapter(kind).validate_python(value, strict=True)
        except ValidationError as error:
            faults += _one_each([_fault(path, key, kind, detail) for detail in error.errors()])
    if faults:
        raise InputError(faults)
    return checked


def _one_each(faults: list[Fault]) -> list[Fault]:
    """One fault for a value that is none of several types: pydantic tells what each of them would allow."""
    together: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        key = fault.where, fault.problem
        earlier = together.get(key)
        allowed = fault.allowed if earlier is None else f"{earlier.allowed} or {fault.allowed}"
        together[key] = replace(earlier or fault, allowed=allowed)
    return list(together.values())


def unread(values: Mapping[str, Any], declared: set[str], path: str = FILE) -> list[Fault]:
    """A fault for each setting that no stage declares: a misspelled or an obsolete block."""
    faults = []
    for key in leaves(values):
        if not any(key == name or key.startswith(f"{name}.") for name in declared):
            faults.append(
                Fault("unknown setting", f"{path}: {key}", "is not a setting of any stage", "",
                      suggestion(key, declared) or "Remove it")
            )
    return faults


def suggestion(word: str, known: set[str] | list[str]) -> str:
    """`Did you mean X?`, or "" where no known word is similar."""
    lower = {name.lower(): name for name in sorted(known)}
    near = difflib.get_close_matches(word.lower(), list(lower), n=1, cutoff=0.6)
    return f"Did you mean {lower[near[0]]}?" if near else ""


def _lookup(values: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = values
    for part in key.split(".") if key else []:
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _all_keys(values: Mapping[str, Any], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for key, value in values.items():
        keys.add(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys |= _all_keys(value, f"{prefix}{key}.")
    return keys


def _fault(path: str, key: str, kind: Any, detail: Any) -> Fault:
    location, owner, tag = _locate(kind, detail["loc"])
    where = f"{path}: {'.'.join(part for part in [key, *location] if part)}"
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        fields = sorted(getattr(owner, "model_fields", {}))
        problem = f"is {value!r}; {{name: {tag}}} has no such setting" if tag else "is not a setting of this stage"
        return Fault("unknown setting", where, problem, f"{fields}", suggestion(location[-1], fields) or "Remove it")
    if location and (shapes := _shapes(owner, location[-1])):
        return _shape_fault(where, location[-1], shapes, detail)
    if detail["type"] == "missing":
        return Fault("missing setting", where, "is missing", "", "Add it; see presets/")
    shown = f"is {value!r} (text)" if isinstance(value, str) else f"is {value!r}"
    remedy = "Change it"
    if isinstance(value, str):
        try:
            number = float(value)
            number = int(number) if "integer" in detail["msg"] and number.is_integer() else number
            remedy = f"Write {number!r} without quotes"
        except ValueError:
            expected = detail.get("ctx", {}).get("expected", "")
            words = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
            remedy = suggestion(value, words) or remedy
    allowed = detail["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return Fault("bad setting", where, shown, allowed, remedy)


def _locate(kind: Any, loc: Sequence[int | str]) -> tuple[list[str], Any, str]:
    """The keys of the file that lead to a fault, the class that holds the last one, and the name of that class's shape.

    pydantic's location also has the name of a shape (`step` of `schedule: {name: step}`) and of types it has tried.
    """
    keys: list[str] = []
    parts = list(loc)
    owner, tag = kind, ""
    while parts:
        part = parts.pop(0)
        if not (isinstance(part, int) or _is_key(part)):
            continue
        keys.append(str(part))
        shapes = _shapes(kind, part)
        owner, above = kind, tag
        tag = str(parts.pop(0)) if shapes and parts else ""
        field = getattr(kind, "model_fields", {}).get(part)
        kind = shapes.get(tag) if shapes else _block(field.annotation) if field else None
        if not parts:
            tag = above
    return keys, owner, tag


def _block(kind: Any) -> Any:
    """Of a type such as `int | Passes` the class whose keys the file may have there, else the type itself."""
    return next((member for member in get_args(kind) if hasattr(member, "model_fields")), kind)


def _shapes(kind: Any, key: int | str) -> dict[str, Any]:
    """Name -> class of each shape that a setting may have, where its key `name` selects one; else empty."""
    field = getattr(kind, "model_fields", {}).get(key)
    if field is None or not field.discriminator:
        return {}
    return {get_args(shape.model_fields["name"].annotation)[0]: shape for shape in get_args(field.annotation)}


def _shape_fault(where: str, key: str, shapes: Mapping[str, Any], detail: Any) -> Fault:
    """No shape is selected: the name is missing or unknown, or there is a plain value, not {name: ...}."""
    value = detail["input"]
    texts = {name: f"{{{', '.join([f'name: {name}', *(field for field in kind.model_fields if field != 'name')])}}}"
             for name, kind in shapes.items()}
    allowed = " or ".join(texts.values())
    if not isinstance(value, Mapping):
        shown, known = (f"is {value!r} (text)", value in texts) if isinstance(value, str) else (f"is {value!r}", False)
        return Fault("bad setting", where, shown, allowed, f"Write {key}: {texts[value]}" if known else "Change it")
    if "name" not in value:
        return Fault("missing setting", f"{where}.name", "is missing", allowed, "Add it")
    remedy = suggestion(str(value["name"]), list(shapes)) or "Choose one"
    return Fault("bad setting", f"{where}.name", f"is {value['name']!r}", allowed, remedy)


def _is_key(part: Any) -> bool:
    """Of a union, pydantic reports the names of the types it has tried too; those are no keys of the file."""
    return isinstance(part, str) and part.isidentifier() and part not in {"int", "float", "str", "bool"}
