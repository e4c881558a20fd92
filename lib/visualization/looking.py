"""The maps of one score after another, unjudged: of the trace of an image."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lib.detectors.target import Explainer
from lib.images.decode import Image
from lib.visualization.attribution import heat, maps
from lib.visualization.fields import FieldsOf
from lib.visualization.placing import Heat, to_image

KINDS = ("gradient", "grad_cam", "hires_cam")


def looker(explainer: Explainer | None) -> Callable[[Image, NDArray[np.float32], int], dict[str, Heat]] | None:
    """The function (image, region float32 (4,), class from 0) -> maps by kind of `KINDS`, on the image's pixels.

    explainer : None for a detector that has none, and then there is no function
    """
    if explainer is None:
        return None
    fields_of = FieldsOf()

    def look(image: Image, box: NDArray[np.float32], label: int) -> dict[str, Heat]:
        target = explainer(image, box, label)
        cells = fields_of(target.network, target.maps, (target.inputs.shape[2], target.inputs.shape[3]))
        height, width = image.shape[:2]
        made = maps(target, cells, KINDS)
        return {kind: to_image(heat(signed), target.window, width, height) for kind, signed in made.items()}

    return look
