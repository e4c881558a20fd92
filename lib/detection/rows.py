"""The rows of `detect` in dvc.yaml: which detector, settings and files make a method."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from lib.backbones.device import Device
from lib.detection.many_images import Detector
from lib.images.image_set import ProposalsMax
from lib.parallel.clock import Clock
from lib.stage.errors import Fault, InputError
from lib.stage.params import suggestion
from lib.stage.pipeline import Entry

FILES = ("model", "scores", "boxes", "regions")  # roles that name files


@dataclass(frozen=True)
class Row:
    """The roles of a row's command.

    roles : `detector`, `settings`, `proposing` (how many of a table's proposals, or how a model makes them), `FILES`
    """

    roles: Mapping[str, str]

    @property
    def settings(self) -> str:
        """Key of params.yaml: what becomes a detection, and how."""
        return self.roles["settings"]

    @property
    def module(self) -> Any:
        """lib/detectors/PAPER/detector.py"""
        return import_module(f"lib.detectors.{self.roles['detector']}.detector")

    def reads(self) -> dict[str, Any]:
        """The blocks of params.yaml that it reads: key -> type."""
        return {self.settings: self.module.Detect, self.roles["proposing"]: self._proposing}

    def most(self, params: Mapping[str, Any]) -> ProposalsMax:
        """Of how many proposals of an image the detector gets the first; None: all, or it makes its own."""
        return params[self.roles["proposing"]] if self._proposing is ProposalsMax else None

    @property
    def _proposing(self) -> Any:
        return getattr(self.module, "Proposing", ProposalsMax)

    def detector(self, files: Mapping[str, Path], params: Mapping[str, Any], device: Device, clock: Clock) -> Detector:
        """The detector, with its models loaded.

        files  : by role;  params : checked values of `reads`
        device : where to run;  clock : measures the time of each part
        """
        blocks = [params[key] for key, kind in self.reads().items() if kind is not ProposalsMax]
        detector: Detector = self.module.Detector(files, *blocks, device, clock)
        return detector


def row(method: str, entries: Mapping[str, Entry]) -> tuple[Row, dict[str, Path]]:
    """The row of a method (of `pipeline.entries`) and its model files by role.

    Raises InputError for an unknown method and for models not yet made. A table of regions may be missing: it holds the
    pipeline's images, and for other images the regions are computed.
    """
    known = [name.removeprefix("detect@") for name in entries if name.startswith("detect@")]
    if method not in known:
        remedy = suggestion(method, known) or "Choose one"
        raise InputError([Fault("unknown method", "--method", f"is {method!r}", ", ".join(known), remedy)])
    roles = entries[f"detect@{method}"].roles
    files = {role: Path(roles[role]) for role in FILES if Path(roles[role]).suffix == ".pt"}
    faults = [
        Fault("missing model", str(path), "is not there", "", f"Run: dvc repro detect@{method}")
        for path in dict.fromkeys(files.values())
        if not path.exists()
    ]
    if faults:
        raise InputError(faults)
    return Row(roles), files
