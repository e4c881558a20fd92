"""Writes params.yaml as a preset has it: what `make params NAME=bccd` calls.

    python -m tools.params NAME

The values are those of presets/default.yaml, the full file, with what presets/NAME.yaml changes; comments and layout
are the default's. What params.yaml held before is no part of it, so that presets can follow one another; `default` or
`digits` brings back the file as it came. Edits that would be lost are never overwritten: see `unsaved`.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from lib.stage import overlay, params
from lib.stage.errors import Fault, InputError
from lib.storage import tables
from stages import schemas

WIDE = 100  # a list of lists that is longer on one line gets a line for each


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of a file in presets/, without .yaml")
    name = parser.parse_args().name
    path = Path(params.FILE)
    try:
        text = written(name)
        if unsaved(path):
            problem = "has edits that are in no commit and no preset"
            remedy = f"Keep them (git commit {path}, or mv {path} mine.yaml) or drop them (git checkout {path})"
            raise InputError([Fault("unsaved edits", str(path), problem, "", remedy)])
    except InputError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    tables.write_text(path, text)
    count = len(overlay.preset(name))
    content = f"preset {name}, {count} settings are not the default" if count else "the default"
    root, default = (overlay.values(which).get("data", {}).get("root") for which in (name, overlay.DEFAULT))
    own = count and root and root == default  # a preset for images of one's own, which are elsewhere
    then = f"Now set data.root in {path} to your images, and run" if own else "Now run"
    print(f"{path}: {content}. {then}: dvc repro")
    return 0


def written(name: str, folder: Path = overlay.FOLDER, own: Mapping[str, Any] | None = None) -> str:
    """The text of params.yaml for a preset.

    own : further changes, dotted key -> value, laid over the preset
    Raises InputError for everything wrong with the preset, by the types of all stages.
    """
    where = f"{folder}/{name}.yaml"
    if faults := schemas.faults(overlay.apply(overlay.values(name, folder), own or {}, where), where):
        raise InputError(faults)
    return _text(name, folder, own or {})


def _text(name: str, folder: Path, own: Mapping[str, Any]) -> str:
    changes = overlay.preset(name, folder)
    text = rewritten(rewritten((folder / f"{overlay.DEFAULT}.yaml").read_text(encoding="utf-8"), changes), own)
    head = f"# Written by `make params NAME={name}`: presets/{name}.yaml over presets/default.yaml.\n"
    return head + text if changes else text


def unsaved(path: Path, folder: Path = overlay.FOLDER) -> bool:
    """Whether overwriting the file would lose something: neither the last commit nor a preset gives this text."""
    if not path.exists():
        return False
    command = ["git", "show", f"HEAD:./{path.name}"]
    committed = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)
    content = path.read_bytes()
    if committed.returncode == 0 and committed.stdout == content:
        return False
    return not any(_makes(name, folder, content) for name in overlay.names(folder))


def _makes(name: str, folder: Path, content: bytes) -> bool:
    try:
        return _text(name, folder, {}).encode() == content
    except InputError:  # the faults of another preset do not matter here
        return False


def rewritten(text: str, changes: Mapping[str, Any]) -> str:
    """YAML with other values at some keys and every other character, all comments among them, as it was.

    changes : dotted key -> value; the keys are there
    Comments stay in their column where the new value leaves room. (ruamel's own writer would move some, and turn `null`
    into nothing.) Raises RuntimeError for text that it cannot edit so: no other values than these are ever written.
    """
    plain = YAML(typ="safe", pure=True)
    values, root = plain.load(text), YAML().compose(text)
    expected = overlay.apply(values, changes, "the new values")
    replacements = [
        replacement
        for key, value in changes.items()
        for replacement in _replacements(*_find(root, key), overlay.at(values, key), value)
    ]
    result = text
    for key, node, value in sorted(replacements, key=lambda item: item[1].start_mark.index, reverse=True):
        result = _replaced(result, key, node, value)  # from the end, so that earlier positions stay valid
    if plain.load(result) != expected:
        raise RuntimeError(f"the new text does not hold the new values of {sorted(changes)}")
    return result


def _find(root: Node, key: str) -> tuple[Node, Node]:
    name, node = root, root
    for part in key.split("."):
        name, node = next(pair for pair in node.value if pair[0].value == part)
    return name, node


def _replacements(key: Node, node: Node, old: Any, new: Any) -> Iterator[tuple[Node, Node, Any]]:
    """Key, value and new value of what changes. In a block of settings that is only what differs: its comments stay."""
    if isinstance(node, MappingNode) and not node.flow_style and isinstance(new, Mapping):
        for inner, value in node.value:
            yield from _replacements(inner, value, old[inner.value], new[inner.value])
    elif repr(old) != repr(new):  # 1 is not 1.0 in a file
        yield key, node, new


def _replaced(text: str, key: Node, node: Node, value: Any) -> str:
    start, end = node.start_mark.index, _end(node)
    first = text.rfind("\n", 0, key.start_mark.index) + 1
    below = "\n" in text[key.end_mark.index : start]  # rows on the lines after their key
    if below:
        stop = text.index("\n", key.end_mark.index)
        head, tail = text[first : key.end_mark.index] + ": ", ""
        _, comment, column = _comment(text, first, stop)
        between, rest = text[stop + 1 : text.rfind("\n", 0, start) + 1], text[end:]
    else:
        stop = text.find("\n", end) if "\n" in text[end:] else len(text)
        tail, comment, column = _comment(text, end, stop)
        head = text[first:start]
        between, rest = "", text[stop:]
    flow = _flow(value)
    if isinstance(value, list) and any(isinstance(item, list) for item in value) and len(flow) > WIDE and not tail:
        indent = " " * (len(head) - len(head.lstrip()) + 2)
        rows = "\n".join(f"{indent}- {_flow(item)}" for item in value)
        return f"{text[:first]}{_aligned(head.rstrip(), comment, column)}\n{between}{rows}{rest}"
    line = _aligned(head + flow + tail, comment, column)
    return f"{text[:first]}{line}" + (f"\n{between.rstrip(chr(10))}" if between else "") + rest


def _end(node: Node) -> int:
    """Behind the last character of a value. The mark of a block stands at what follows it."""
    while isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(node, MappingNode) else last
    return int(node.end_mark.index)


def _comment(text: str, start: int, stop: int) -> tuple[str, str, int]:
    """What else stands on the line after a value, its comment, and the comment's column."""
    comment = re.search(r"(?:^|(?<=\s))#.*", text[start:stop])
    if not comment:
        return text[start:stop].rstrip(), "", 0
    position = start + comment.start()
    return text[start:position].rstrip(), comment[0], position - text.rfind("\n", 0, position) - 1


def _aligned(body: str, comment: str, column: int) -> str:
    gap = max(column - len(body), 2)
    return f"{body}{' ' * gap}{comment}" if comment else body


def _flow(value: Any) -> str:
    """A value on one line, as YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = True
    yaml.width = sys.maxsize
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = StringIO()
    yaml.dump([value], stream)  # in a list, as a bare value would get an end-of-document mark
    return stream.getvalue().strip()[1:-1]


if __name__ == "__main__":
    sys.exit(main())
