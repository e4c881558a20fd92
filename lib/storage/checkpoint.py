"""Models and training states as `.pt` files of tensors and plain types; equal contents give equal bytes."""

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from lib.stage.errors import Fault, InputError
from lib.storage.tables import write_atomic


def _canonical(value: Any) -> Any:
    """A fresh copy in which equal strings are one object and no tensors share storage.

    torch.save writes by object identity, so otherwise a resumed run would differ from an uninterrupted one.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {_canonical(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    if isinstance(value, str):
        return sys.intern(value)
    if value is None or type(value) in (bool, int, float):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain types, not {type(value).__name__}")


def save(path: Path | str, contents: dict[str, Any]) -> None:
    """Writes the file whole or not at all; tuples become lists. Raises TypeError for any other type."""
    buffer = io.BytesIO()  # torch.save would put the path's own name into the file
    torch.save(_canonical(contents), buffer)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def load(path: Path | str, *keys: str) -> dict[str, Any]:
    """What `save` wrote, tensors on the CPU. Never unpickles objects.

    keys : top-level keys that must be there
    Raises InputError for a file that is missing, broken, unsafe or of another kind.
    """
    remedy = "Delete it and run: dvc repro"
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError([Fault("missing model", str(path), "the file is not there", "", "Run: dvc repro")]) from None
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            [Fault("broken model", str(path), f"cannot be loaded ({first})", "tensors and plain types only", remedy)]
        ) from None
    missing = [key for key in keys if not isinstance(contents, dict) or key not in contents]
    if missing:
        raise InputError([Fault("wrong model", str(path), f"has no {missing}", f"a file with {list(keys)}", remedy)])
    return dict(contents)
