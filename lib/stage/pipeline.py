"""What dvc.yaml says of a stage, resolved by DVC itself, so that it is written in one place only."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One stage as DVC resolves it. Paths are relative to the repository, or absolute where outside it.

    name    : address for `dvc repro`, for example `svm@rcnn` or `data/digits/dvc.yaml:digits`
    script  : module after `python -m`
    args    : words after the module: the row's name (`rcnn` of `svm@rcnn`) or block, and what else the row sets
    params  : dotted keys of params.yaml that the stage declares
    deps, outs : paths, each once;  persist : outs that DVC leaves in place before a run
    """

    name: str
    script: str
    args: tuple[str, ...]
    params: tuple[str, ...]
    deps: tuple[str, ...]
    outs: tuple[str, ...]
    persist: tuple[str, ...]


@cache
def entries() -> dict[str, Entry]:
    """Every stage of every dvc.yaml in the repository, by its address."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {stage.addressing: _entry(stage, repo.root_dir) for stage in repo.index.stages if stage.cmd}


def _entry(stage: Any, root: str) -> Entry:
    from dvc.dependency.param import ParamsDependency

    words = str(stage.cmd).split()
    at = words.index("-m") + 1
    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    deps = [dep for dep in stage.deps if not isinstance(dep, ParamsDependency)]
    return Entry(
        name=stage.addressing,
        script=words[at],
        args=tuple(words[at + 1 :]),
        params=tuple(key for dep in params for key in dep.params),
        deps=tuple(dict.fromkeys(_relative(dep.fs_path, root) for dep in deps)),
        outs=tuple(_relative(out.fs_path, root) for out in stage.outs),
        persist=tuple(_relative(out.fs_path, root) for out in stage.outs if out.persist),
    )


def _relative(path: str, root: str) -> str:
    absolute = os.path.normpath(os.path.join(root, path))
    inside = os.path.relpath(absolute, root)
    return absolute if inside.startswith("..") else Path(inside).as_posix()
