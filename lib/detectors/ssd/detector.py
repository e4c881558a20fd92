"""SSD at test time (Liu et al. 2016, §2.1): the default boxes of an image, scored and moved in one pass."""

from collections.abc import Mapping
from pathlib import Path

from lib.backbones.device import Device
from lib.detectors.dense.detector import DenseDetector, Detect, Proposing
from lib.detectors.ssd.network import restore
from lib.parallel.clock import Clock

__all__ = ["Detect", "Detector", "Proposing"]


class Detector(DenseDetector):
    """See `DenseDetector`. files : by role: `model`"""

    def __init__(self, files: Mapping[str, Path], settings: Detect, device: Device, clock: Clock) -> None:
        super().__init__(files["model"], restore, settings, device, clock)
