"""What every script reads of params.yaml, and how a script becomes a stage.

No code dep of any stage: nothing here changes a result.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from lib.stage import params, pipeline, run
from lib.stage import schemas as stage_schemas
from lib.stage.errors import Fault
from lib.stage.run import Life
from lib.stage.schemas import Schema


def schemas() -> dict[str, Schema]:
    """The `PARAMS` of every stage's script by the stage's address."""
    return {name: import_module(entry.script).PARAMS for name, entry in pipeline.entries().items()}


def faults(values: Mapping[str, Any], path: str = params.FILE) -> list[Fault]:
    """Everything that is wrong with the params of any stage; `path` names their file in the messages."""
    return stage_schemas.faults(values, schemas(), path)


def stage(main: Callable[[Life], None], schema: Schema) -> None:
    """What `if __name__ == "__main__"` of a script calls; see `run.stage`."""
    run.stage(main, schema, schemas)
