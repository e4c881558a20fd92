"""What DVC would run again after each of many edits: `dvc repro --dry --force-downstream`, in one process.

`python reruns.py EDITS ANSWERS`: EDITS, a JSON list of {path: new text}; applies each alone, takes it back, and writes
the
lists of stages to ANSWERS. DVC decides all of it, on files that are really edited; only the seconds in which it starts,
parses the same YAML dozens of times and notes that it works on a file (nobody else does here) are not spent each time.
"""

import contextlib
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from dvc import rwlock
from dvc.repo import Repo
from ruamel.yaml import YAML

PARSE, PARSED = YAML.load, dict[tuple[str, str], bytes]()


def load(yaml: YAML, stream: Any) -> Any:
    """In place of `YAML.load`: the same for the same text."""
    text = stream if isinstance(stream, str) else stream.read()
    kind = str(yaml.typ)
    if (kind, text) not in PARSED:
        PARSED[kind, text] = pickle.dumps(PARSE(yaml, text))
    return pickle.loads(PARSED[kind, text])


def reruns(edit: dict[str, str]) -> list[str]:
    """Addresses of the stages that DVC finds changed, or after one that is."""
    before = {Path(path): Path(path).read_bytes() for path in edit}
    try:
        for path, text in edit.items():
            Path(path).write_text(text)
        with Repo() as repo:
            return [stage.addressing for stage in repo.reproduce(dry=True, force_downstream=True)]
    finally:
        for path, content in before.items():
            path.write_bytes(content)


if __name__ == "__main__":
    YAML.load = load
    rwlock.rwlock = lambda *_: contextlib.nullcontext()
    edits = json.loads(Path(sys.argv[1]).read_text())
    Path(sys.argv[2]).write_text(json.dumps([reruns(edit) for edit in edits]))
