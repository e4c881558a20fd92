"""Files of the pipeline as they were at a Git revision, through DVC's API: cached outs too, without a checkout."""

from pathlib import Path

from lib.core.errors import Fault, InputError

WORKSPACE = "workspace"


def fetch(revision: str, path: str, folder: Path) -> Path:
    """A tracked file or folder at a revision; returns where it can be read.

    revision : anything Git resolves, an experiment's name, or "workspace" for the files as they are
    path     : relative to the repository
    folder   : where to put what is not the workspace's; the path below it is `path`
    raises   : InputError for an unknown revision, a path that it does not have, and content that no cache holds
    """
    if revision == WORKSPACE:
        if not Path(path).exists():
            raise _missing(revision, path, "is not there", "Run: dvc repro")
        return Path(path)
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        files = DVCFileSystem(rev=revision)
        files.repo  # noqa: B018  resolves the revision; `exists` would take an unknown one for an empty one
        if not files.exists(path):
            raise _missing(revision, path, "is not part of this revision", "Name a revision that has it")
        if files.isdir(path):
            files.get(path, str(target), recursive=True)
        else:
            files.get_file(path, str(target))
    except (DvcException, SCMError, OSError) as error:
        raise _missing(
            revision, path, f"cannot be read ({error})",
            f"Check the revision; where its content is in no cache: dvc fetch, or git checkout {revision} and dvc repro",
        ) from error
    return target


def _missing(revision: str, path: str, problem: str, remedy: str) -> InputError:
    return InputError([Fault("no such content", f"{path} at {revision}", problem, "", remedy)])
