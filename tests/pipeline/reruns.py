"""What DVC would run again after each of many edits: `dvc repro --dry --force-downstream`, in one process.

Reads a list of edits {path: new text} as JSON, applies each alone, takes it back, writes the lists of stages as JSON.
"""

import contextlib
import json
import sys
from pathlib import Path

from dvc.repo import Repo


def reruns(edit: dict[str, str]) -> list[str]:
    """Addresses of the stages that DVC finds changed, or after one that is."""
    before = {Path(path): Path(path).read_bytes() for path in edit}
    try:
        for path, text in edit.items():
            Path(path).write_text(text)
        with Repo() as repo, contextlib.redirect_stdout(sys.stderr):
            return [stage.addressing for stage in repo.reproduce(dry=True, force_downstream=True)]
    finally:
        for path, content in before.items():
            path.write_bytes(content)


if __name__ == "__main__":
    json.dump([reruns(edit) for edit in json.load(sys.stdin)], sys.stdout)
