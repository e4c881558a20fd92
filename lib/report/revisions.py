"""Files of the pipeline at a Git revision, through DVC's API: cached outs too, without a checkout."""

from pathlib import Path

from lib.stage.errors import Fault, InputError

WORKSPACE = "workspace"


def fetch(revision: str, path: str, folder: Path) -> Path:
    """A tracked file or folder at a revision; returns where it can be read.

    revision : anything Git resolves, an experiment's name, or "workspace" for the files as they are
    path     : relative to the repository
    folder   : where to put what is not the workspace's; the path below it is `path`
    raises   : InputError for an unknown revision, a path that it does not have, and content that is in no cache
    """
    if revision == WORKSPACE:
        if not Path(path).exists():
            raise _missing(revision, path, "is not there", "Run: dvc repro")
        return Path(path)
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException
    from dvc.scm import SCMError
    from scmrepo.exceptions import SCMError as GitError

    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        files = DVCFileSystem(rev=revision)
        files.repo  # noqa: B018  resolves the revision; `exists` would treat an unknown one as empty
        if not files.exists(path):
            raise _missing(revision, path, "is not part of this revision", "Name a revision that has it")
        if files.isdir(path):
            files.get(path, str(target), recursive=True)
        else:
            files.get_file(path, str(target))
    except (SCMError, GitError) as error:
        raise _missing(revision, path, f"there is no such revision ({error})", "Check it: git log --oneline") from error
    except (DvcException, OSError) as error:
        raise _missing(
            revision, path, f"is in no cache here ({error})",
            f"Make it there, in a clone or here: git checkout {revision}, dvc repro; or dvc pull where a remote has it",
        ) from error
    return target


def _missing(revision: str, path: str, problem: str, remedy: str) -> InputError:
    return InputError([Fault("no such content", f"{path} at {revision}", problem, "", remedy)])
