"""A stage's life in a temporary folder, without `dvc repro`: words, roles and params are those of dvc.yaml."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lib.stage import params, pipeline, schemas
from stages import schemas as stage_schemas


class FakeLife(SimpleNamespace):
    """The part of `run.Life` that scripts use. Paths below `data/` lie in the folder itself, all others in it too.

    name : address of the stage;  values : nested params, or the checked ones by dotted key
    device : `compute.device`;  said : the work that was announced;  memory : bytes that were announced
    """

    def __init__(
        self, folder: Path, name: str, values: Mapping[str, Any], memory_gib: float = 1.0, device: str = "cpu"
    ) -> None:
        entry = pipeline.entries()[name]
        schema = schemas.keys(stage_schemas.schemas()[name], entry)
        checked = dict(values) if set(schema) <= set(values) else params.validate(values, schema)
        compute = params.Compute(device=device, workers=0, launcher="loky", memory_gib=memory_gib)
        scratch = folder / "scratch" / name
        scratch.mkdir(parents=True, exist_ok=True)
        super().__init__(name=name, entry=entry, item=(*entry.words, "")[0], params=checked, compute=compute,
                         data_root=str(folder), scratch=scratch, folder=folder, said=[], memory=0)

    def dep(self, path: str) -> Path:
        return self.folder / path.removeprefix("data/")

    def role(self, name: str) -> str:
        return self.entry.roles[name]

    def input(self, role: str) -> Path:
        return self.dep(self.role(role))

    def out(self, path: str) -> Path:
        target = self.dep(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def previous(self, path: str) -> None:
        return None

    def announce(self, work: str, disk: int = 0, memory: int = 0) -> None:
        self.said.append(work)
        self.memory = memory

    def progress(self, items: Any, total: int, unit: str, done: int = 0) -> Any:
        return iter(items)
