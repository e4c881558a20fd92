"""The one place where an image is decoded, so that every stage sees the same pixels in the same orientation.

An image is uint8 (H, W, 3), RGB, C-contiguous, whatever the file holds (grey, palette, 16 bits, alpha, CMYK). What is
transparent is composed on white (`alpha`); of 16 bits the upper eight count.
OpenCV, Pillow and torchvision disagree about EXIF by default. Here OpenCV is told to ignore it and `upright`
applies it where the `transpose` column of the images table says so.
"""

from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from lib.images.alpha import on_white
from lib.images.header import EXTENSIONS, Header, read_header
from lib.stage.errors import Fault, InputError

Image = NDArray[np.uint8]


def read_image(root: str | Path, image_id: str, transpose: bool, max_pixels: int | None = None) -> Image:
    """Decode one image of the data set.

    image_id   : path relative to `root`
    transpose  : apply the EXIF orientation
    max_pixels : refuse a larger image before decoding it; None where the caller has checked, as prepare does
    returns    : uint8 (H, W, 3) RGB, contiguous
    raises     : InputError naming the file
    """
    return decode(read_bytes(root, image_id), image_id, transpose, max_pixels)


def decode(data: bytes, where: str, transpose: bool, max_pixels: int | None = None) -> Image:
    """`read_image` for bytes already in memory; `where` names them in messages."""
    header = checked_header(data, where, max_pixels)
    # From a buffer, not a path: OpenCV cannot open every path that the system can, and fails without a message.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None or image.shape[:2] != (header.height, header.width):
        raise _unreadable(where, f"the header says {header.width}x{header.height} but the pixels cannot be decoded")
    rgb: Image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    if header.alpha:
        try:
            rgb = on_white(rgb, data, header)
        except (OSError, ValueError) as error:
            raise _unreadable(where, f"its transparency cannot be read ({error})") from error
    return upright(rgb, header.orientation) if transpose else rgb


def upright(image: Image, orientation: int) -> Image:
    """The image as EXIF says it is to be viewed: orientations 1 to 8 of the EXIF standard, tag 274."""
    turned = image.swapaxes(0, 1) if orientation >= 5 else image
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def read_bytes(root: str | Path, image_id: str) -> bytes:
    """The file's bytes; InputError where it cannot be read."""
    try:
        return (Path(root) / image_id).read_bytes()
    except OSError as error:
        raise _unreadable(image_id, f"cannot be opened ({error.strerror})") from error


def checked_header(data: bytes, where: str, max_pixels: int | None = None) -> Header:
    """Header of the image in `data`; InputError where it is no image or larger than `max_pixels`."""
    header = read_header(data)
    if header is None:
        seen = f"no image that can be read, it begins with {data[:16]!r}" if data else "the file is empty"
        raise _unreadable(where, seen)
    if max_pixels is not None and header.width * header.height > max_pixels:
        size = f"{header.width}x{header.height} = {header.width * header.height:,} pixels"
        remedy = "Make the image smaller, or raise data.max_pixels"
        raise InputError([Fault("image too large", where, size, f"at most {max_pixels:,} (data.max_pixels)", remedy)])
    return header


def probe(path: str | Path) -> Header:
    """Stored size and orientation of a file, without decoding it; InputError where it is no image."""
    return checked_header(read_bytes("", str(path)), str(path))


def content_of(data: bytes) -> str:
    """BLAKE2b of an image file's bytes, 16 bytes in hex: the `content` column of the images table."""
    return blake2b(data, digest_size=16).hexdigest()


def content_hash(path: str | Path) -> str:
    """`content_of` for a file."""
    return content_of(read_bytes("", str(path)))


def _unreadable(where: str, problem: str) -> InputError:
    allowed = "a whole image file: " + " ".join(EXTENSIONS)
    return InputError([Fault("unreadable image", where, problem, allowed, "Replace or remove the file")])
