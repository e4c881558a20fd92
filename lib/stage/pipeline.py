"""What dvc.yaml says of a stage, resolved by DVC itself, so that it is written in one place only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from lib.stage.errors import Fault, InputError


@dataclass(frozen=True)
class Entry:
    """One stage as DVC resolves it. Paths are relative to the repository, or absolute where outside it.

    name    : address for `dvc repro`, for example `svm@rcnn` or `data/digits/dvc.yaml:digits`
    script  : module after `python -m`
    words   : after the module, those without `=`: the row's name (`rcnn` of `svm@rcnn`) or a block of params.yaml
    roles   : those with: `model=data/models/m0.pt` is the file in the role of the model
    params  : dotted keys of params.yaml that the stage declares
    deps, outs : paths, each once;  persist : outs that DVC leaves in place before a run
    """

    name: str
    script: str
    words: tuple[str, ...]
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    persist: tuple[str, ...]
    roles: dict[str, str] = field(default_factory=dict)


@contextmanager
def repository() -> Iterator[Any]:
    """DVC's repository around the working folder. Raises InputError where it is none, or has no Git."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    try:
        repo = Repo()
    except NotDvcRepoError:
        problem, remedy = "is in no DVC repository", "cd to the folder that holds dvc.yaml, of a clone with its .dvc"
    except SCMError:
        problem = "is a copy without .git"
        remedy = "Clone it, or run in the copy: git init; or: dvc config core.no_scm true"
    else:
        with repo:
            yield repo
        return
    raise InputError([Fault("no repository", os.getcwd(), problem, "this repository, as Git clones it", remedy)])


@cache
def entries() -> dict[str, Entry]:
    """Every stage of every dvc.yaml in the repository, by its address. Raises InputError as `repository` does."""
    with repository() as repo:
        return {stage.addressing: _entry(stage, repo.root_dir) for stage in repo.index.stages if stage.cmd}


def _entry(stage: Any, root: str) -> Entry:
    from dvc.dependency.param import ParamsDependency

    command = str(stage.cmd).split()
    start = command.index("-m") + 1
    script, arguments = command[start], command[start + 1 :]
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    deps = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    return Entry(
        name=stage.addressing,
        script=script,
        words=tuple(word for word in arguments if "=" not in word),
        roles=dict(word.split("=", 1) for word in arguments if "=" in word),
        params=tuple(key for dep in params for key in dep.params),
        deps=tuple(dict.fromkeys(_relative(dep.fs_path, root) for dep in deps)),
        outs=tuple(_relative(out.fs_path, root) for out in stage.outs),
        persist=tuple(_relative(out.fs_path, root) for out in stage.outs if out.persist),
    )


def _relative(path: str, root: str) -> str:
    absolute = os.path.normpath(os.path.join(root, path))
    inside = os.path.relpath(absolute, root)
    return absolute if inside.startswith("..") else Path(inside).as_posix()
