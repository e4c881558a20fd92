"""Which stages must run before a stage, by the deps and outs that dvc.yaml declares."""

from collections.abc import Mapping

from lib.stage.pipeline import Entry


def before(name: str, entries: Mapping[str, Entry]) -> set[str]:
    """Names of the stages from which a stage descends, itself left out.

    entries : every stage by its address (`pipeline.entries`)
    """
    ancestors: set[str] = set()
    todo = [name]
    while todo:
        deps = entries[todo.pop()].deps
        for other, entry in entries.items():
            new = other not in ancestors and other != name
            if new and any(_overlaps(dep, out) for dep in deps for out in entry.outs):
                ancestors.add(other)
                todo.append(other)
    return ancestors


def _overlaps(first: str, second: str) -> bool:
    """One path is the other, or lies inside it."""
    return first == second or first.startswith(f"{second}/") or second.startswith(f"{first}/")
