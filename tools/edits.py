"""The edits of code in Git's history, each at the paths where that code is today.

An edit is a file with status M in a commit, by `git log -M30% --name-status`. A file that was added made nothing
stale, one that was deleted has no stages any more, and a move (R) rewrites the imports of every file that moves: it
would count each file once and hide what people really edit. A merge shows no files; what it brings is in its own
commits.

An edited path is followed through all later renames. A rename has one successor; for a file that was split, a table old
path: [new paths] names them all. Its entry applies to what came before the newest commit in which one of the new paths
arrives, and there replaces Git's rename.
"""

import subprocess
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from ruamel.yaml import YAML


@dataclass(frozen=True)
class Change:
    """One file of one commit. status : M, A, D, R or T;  old, new : its path before and after, equal but for R."""

    commit: str
    status: str
    old: str
    new: str


def changes(root: Path, folders: Iterable[str]) -> list[Change]:
    """Of every commit from HEAD back, newest first, below the folders. 30 % alike is a rename; -l0: all pairs."""
    return parse(git(root, "log", "-M30%", "-l0", "--name-status", "--format=@%H", "--", *folders))


def commits(root: Path, since: str | None, until: str) -> set[str]:
    """Commits up to `until` that are not in the history of `since`."""
    return set(git(root, "rev-list", f"{since}..{until}" if since else until).split())


def git(root: Path, *words: str) -> str:
    """What git prints in `root`. Raises ValueError with git's own message."""
    command = ["git", "-c", "core.quotePath=false", *words]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ValueError(f"git {words[0]} in {root}: {result.stderr.strip()}")
    return result.stdout


def parse(log: str) -> list[Change]:
    """The changes in `git log --name-status --format=@%H`, in its order."""
    history = []
    commit = ""
    for line in filter(None, log.splitlines()):
        if line.startswith("@"):
            commit = line[1:]
        else:
            status, *paths = line.split("\t")
            history.append(Change(commit, status[0], paths[0], paths[-1]))
    return history


def read_moved(path: Path) -> dict[str, list[str]]:
    """The table of split files, YAML or JSON. Raises ValueError where it is not one."""
    if not path.is_file():
        raise ValueError(f"{path}: is not there. It should hold the split files, old path: [new paths]")
    table = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    if not isinstance(table, dict) or not all(isinstance(new, list) and new for new in table.values()):
        raise ValueError(f"{path}: is not a table of split files. Allowed: old path: [new paths], at least one each")
    return {str(old): [str(path) for path in new] for old, new in table.items()}


def follow(
    history: Sequence[Change], counted: Collection[str], moved: Mapping[str, Sequence[str]], present: Collection[str]
) -> list[tuple[str, ...]]:
    """For every edit the paths where its code is today; empty where it is gone. Newest first.

    history : newest first;  counted : commits whose edits count;  moved : old path -> new paths, of split files
    present : the paths of today
    """
    now: dict[str, set[str]] = {}  # path at the commit -> paths of today
    edited: list[set[str]] = []
    for commit, group in groupby(history, key=lambda change: change.commit):
        files = list(group)
        if commit in counted:
            edited += [now.get(change.new, {change.new}) for change in files if change.status == "M"]
        # All at once: two files may change places in one commit.
        renames = [change for change in files if change.status == "R" and change.old not in moved]
        earlier = {change.old: now.get(change.new, {change.new}) for change in renames}
        arrived = {change.new for change in files if change.status in "AR"}
        for old, paths in moved.items():
            if arrived & set(paths) - {old}:
                earlier[old] = set().union(*(now.get(path, {path}) for path in paths))
        now |= earlier
    # A branch may have edited an old path after another had moved it: Git lists that edit before the rename.
    ends = [set().union(*({path} if path in present else now.get(path, {path}) for path in paths)) for paths in edited]
    return [tuple(sorted(paths & set(present))) for paths in ends]


def without_effect(history: Iterable[Change], moved: Mapping[str, Sequence[str]]) -> list[str]:
    """Entries of the table none of whose new paths ever arrives: misspelt, or of a later revision."""
    arrived = {change.new for change in history if change.status in "AR"}
    return sorted(old for old, paths in moved.items() if not arrived & set(paths) - {old})
