"""Transparent pixels, composed on white: what a browser shows behind an image, and so what most annotators saw.

The colour that a file stores where nothing is to be seen may be anything: black, or what a tool erased.

H, W: of the image as decoded.
"""

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from lib.images.header import Header

WHITE = 255
Pillow.MAX_IMAGE_PIXELS = None  # its own limit; ours is data.max_pixels, checked before any decoder runs


def on_white(rgb: NDArray[np.uint8], data: bytes, header: Header) -> NDArray[np.uint8]:
    """The image over white, or as it is where every pixel is opaque.

    rgb     : uint8 (H, W, 3), as decoded without a look at transparency
    data    : the file, which `header` says may have some
    returns : uint8 (H, W, 3): colour x alpha + 255 x (1 - alpha), rounded
    raises  : OSError or ValueError where Pillow cannot read a TIFF
    """
    # OpenCV gives the colours of some TIFF files multiplied by alpha, of others not, and of grey ones no alpha.
    layers = _tiff(data) if data[:2] in (b"II", b"MM") else np.dstack([rgb, _alpha(data, header, rgb.shape[:2])])
    colours, alpha = layers[..., :3], layers[..., 3:]
    if layers.shape[:2] != rgb.shape[:2]:
        raise ValueError(f"decoders disagree: {layers.shape[:2]} and {rgb.shape[:2]}")
    if (alpha == 255).all():
        return rgb
    return np.rint(WHITE + (colours.astype(np.float32) - WHITE) * (alpha.astype(np.float32) / 255)).astype(np.uint8)


def _alpha(data: bytes, header: Header, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """uint8 (H, W), 255 where opaque; of 16 bits the upper eight."""
    # As stored: this flag leaves the EXIF orientation alone too.
    stored: NDArray[Any] = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if header.clear_grey is not None and stored.ndim == 2:
        return np.where(stored == header.clear_grey, 0, 255).astype(np.uint8)
    if stored.ndim != 3 or stored.shape[2] < 4:
        return np.full(size, 255, np.uint8)
    alpha = stored[..., 3]
    return (alpha >> 8 if alpha.dtype == np.uint16 else alpha).astype(np.uint8)


def _tiff(data: bytes) -> NDArray[np.uint8]:
    """uint8 (H, W, 4), colours not multiplied by alpha."""
    with Pillow.open(io.BytesIO(data)) as image:  # which turns it by its orientation, as OpenCV does
        return np.asarray(image.convert("RGBA"))
