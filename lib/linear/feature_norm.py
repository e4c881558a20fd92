"""One factor that brings the features of a layer to a given mean norm (R-CNN authors' feature statistics).

It is a single number for the whole layer, measured on the training images and stored with the model: neither each
sample nor each dimension is normalised. C of the SVM and the ridge penalty presume it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from lib.stage.errors import Fault, InputError
from lib.stage.params import Settings
from lib.storage.shards import Reader


class NormSample(Settings):
    """The mean norm that the features of a layer are scaled to, and the sample on which it is measured.

    target        : mean norm after scaling (authors: 20)
    images, boxes : random training images, and random regions in each (authors: 200 and 200)
    """

    target: float = Field(gt=0)
    images: int = Field(ge=1)
    boxes: int = Field(ge=1)


def measure(features: Reader, layer: str, image_ids: Sequence[str], sample: NormSample, seed: int) -> float:
    """The factor that brings a stored layer to the target mean norm; a multiplier for every feature."""
    norm = FeatureNorm(sample.boxes, seed)
    for image in sampled_images(len(image_ids), sample.images, seed):
        norm.add(int(image), features.read(layer, image_ids[image]))
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


def sampled_images(images: int, most: int = 200, seed: int = 3) -> NDArray[np.int64]:
    """Which images the norm is measured on: `most` of them, or all if there are fewer.

    returns : int64 (min(most, images),)  distinct, ascending, so that stored features are read in order
    """
    sample = np.random.default_rng(seed).permutation(images)[:most]
    return np.sort(sample).astype(np.int64)


class FeatureNorm:
    """Mean Euclidean norm of up to `boxes` random rows of each image, streaming.

    Which rows are sampled depends on the seed and the image's number alone, not on the order of the images.
    """

    def __init__(self, boxes: int = 200, seed: int = 3) -> None:
        self._boxes, self._seed = boxes, seed
        self._sum, self._rows = 0.0, 0

    def add(self, image: int, features: NDArray[np.floating]) -> None:
        """Features of one image, any float type (R, D), after ReLU, unscaled; objects may be among them."""
        refuse_non_finite(features, f"image {image}")
        rows = np.random.default_rng((self._seed, image)).permutation(len(features))[: self._boxes]
        norms = np.linalg.norm(np.asarray(features)[rows].astype(np.float64), axis=1)
        self._sum, self._rows = self._sum + float(norms.sum()), self._rows + len(rows)

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
