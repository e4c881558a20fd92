"""One factor that brings the features of a layer to a given mean norm (R-CNN authors' feature statistics).

It is a single number for the whole layer, measured on the training images and stored with the model: neither each
sample nor each dimension is normalised. C of the SVM and the ridge penalty presume it.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lib.boxes.samples import NormSample, sampled_images, sampled_regions
from lib.stage.errors import Fault, InputError

Read = Callable[[int, NDArray[np.int64]], NDArray[np.floating]]


def measure(read: Read, counts: Sequence[int], sample: NormSample, seed: int) -> float:
    """The factor that brings a layer to the target mean norm; a multiplier for every feature.

    read   : number of an image and rows of its regions, int64 (n,) -> their features, any float type (n, D)
    counts : number of regions of each image, in order
    """
    norm = FeatureNorm()
    for image in sampled_images(len(counts), sample.images, seed).tolist():
        norm.add(image, read(image, sampled_regions(counts[image], image, sample.boxes, seed)))
    return norm.scale(sample.target)


def refuse_non_finite(features: NDArray[np.floating], where: str) -> None:
    """Raises InputError if a row of features, any float type (R, D), holds a NaN or an infinity."""
    non_finite = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if non_finite.size:
        fault = Fault(
            kind="non-finite feature",
            where=f"{where}, row {non_finite[0]}",
            problem=f"NaN or infinity among its features, in {non_finite.size} of {len(features)} rows",
            allowed="finite numbers",
            remedy="The network diverged: train it again with a lower learning rate",
        )
        raise InputError([fault])


class FeatureNorm:
    """Mean Euclidean norm of the rows of some images, streaming."""

    def __init__(self) -> None:
        self._sum, self._rows = 0.0, 0

    def add(self, image: int, features: NDArray[np.floating]) -> None:
        """Features of the sampled regions of one image, any float type (n, D), after ReLU, unscaled."""
        refuse_non_finite(features, f"image {image}")
        norms = np.linalg.norm(np.asarray(features).astype(np.float64), axis=1)
        self._sum, self._rows = self._sum + float(norms.sum()), self._rows + len(norms)

    def scale(self, target: float = 20.0) -> float:
        """The factor ``target / mean norm`` for every feature of this layer."""
        if not self._sum > 0:
            fault = Fault(
                kind="features without norm",
                where="feature norm",
                problem=f"the norms of the {self._rows} sampled rows sum to 0",
                allowed="at least one feature above 0",
                remedy="Check the network and its input",
            )
            raise InputError([fault])
        return target * self._rows / self._sum
