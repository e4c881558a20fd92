"""The maps of one score after another, unjudged: of the trace of an image."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lib.backbones.device import Device
from lib.detectors.target import Explainer
from lib.images.decode import Image
from lib.visualization.attribution import heat, maps
from lib.visualization.fields import FieldsOf
from lib.visualization.placing import Heat, to_image

KINDS = ("gradient", "grad_cam", "hires_cam")


def looker(
    detector: str, files: Mapping[str, Path], margins: bool, device: Device
) -> Callable[[Image, NDArray[np.float32], int], dict[str, Heat]] | None:
    """The function (image, region float32 (4,), class from 0) -> maps by kind of `KINDS`, on the image's pixels.

    detector : folder of lib/detectors; where it has no explain.py there is no function
    files, margins, device : as its `Explainer` takes them
    """
    name = f"lib.detectors.{detector}.explain"
    if find_spec(f"lib.detectors.{detector}") is None or find_spec(name) is None:
        return None
    explainer: Explainer = import_module(name).Explainer(files, margins, device)
    fields_of = FieldsOf()

    def look(image: Image, box: NDArray[np.float32], label: int) -> dict[str, Heat]:
        target = explainer(image, box, label)
        cells = fields_of(target.network, target.grid, (target.inputs.shape[2], target.inputs.shape[3]))
        height, width = image.shape[:2]
        made = maps(target, cells, KINDS)
        return {kind: to_image(heat(signed), target.window, width, height) for kind, signed in made.items()}

    return look
