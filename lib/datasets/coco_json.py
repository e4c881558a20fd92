"""COCO's JSON files: which files they are, and their content with every number finite."""

import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from lib.datasets.listing import Listing
from lib.stage.errors import Fault

_KEYS = (b'"images"', b'"annotations"')


class _NotFinite(str):
    """A bare NaN or Infinity. Kept as text, so that no arithmetic takes it for a number and its position is known."""


def files(listing: Listing) -> list[str]:
    """The annotation files. COCO's own captions and keypoints repeat the images and are left out."""
    paths = [path for path in listing.json if _looks_like_coco(listing.read(path))]
    instances = [path for path in paths if PurePosixPath(path).name.startswith("instances")]
    return instances or paths


def lacking(listing: Listing, paths: list[str]) -> dict[str, str]:
    """What is missing in each file beside those at `paths` that has one of `images` and `annotations` alone."""
    others = {path: listing.read(path).replace(b"\0", b"") for path in listing.json if path not in paths}
    missing = {path: [key.decode() for key in _KEYS if key not in data] for path, data in others.items()}
    return {path: f"lacks {keys[0]}" for path, keys in missing.items() if len(keys) == 1}


def _looks_like_coco(data: bytes) -> bool:
    return all(key in data for key in _KEYS) or all(key in data.replace(b"\0", b"") for key in _KEYS)


def load(listing: Listing, path: str, faults: list[Fault]) -> dict[str, Any] | None:
    """The file's content; None, and a fault, where it is not JSON or holds numbers that are not finite."""
    try:
        data = json.loads(listing.read(path), parse_constant=_NotFinite)
    except (ValueError, RecursionError) as error:
        faults.append(Fault("unreadable JSON", path, f"it does not parse ({error})", "JSON", "Export it again"))
        return None
    not_finite = [(position, value) for position, value in _leaves(data) if isinstance(value, _NotFinite)]
    for position, value in not_finite:
        where = f"{path}, {position}"
        faults.append(Fault("non-finite number", where, f"is {value}", "a finite number", "Fix the file"))
    if not_finite:
        return None
    lists = isinstance(data, dict) and all(
        isinstance(rows := data.get(key), list) and all(isinstance(row, dict) for row in rows)
        for key in ("images", "annotations", "categories")
    )
    if not lists:
        problem = "images, annotations and categories are not all lists of objects"
        faults.append(Fault("unreadable JSON", path, problem, "COCO's layout", "Export it again, or move it away"))
        return None
    return dict(data)


def _leaves(value: Any, position: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, f"{position}.{key}" if position else key)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _leaves(child, f"{position}[{number}]")
    else:
        yield position, value
