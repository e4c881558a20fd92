"""Size, orientation and transparency of an image file from its first bytes, without decoding a pixel.

A hostile file can be tens of kilobytes that decode to gigabytes, so the size has to be known before the decoder runs.
Formats: JPEG, PNG, WebP, BMP, TIFF. Layouts follow ITU-T T.81 and the specifications of PNG, the WebP container and
TIFF 6.0.
"""

import struct
from dataclasses import dataclass

EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff")

# TIFF tags; EXIF uses the same.
_WIDTH, _HEIGHT = 256, 257
_ORIENTATION = 274
_KIND, _SAMPLES, _EXTRA = 262, 277, 338
# Samples of a pixel without alpha, by the kind that tag 262 says: grey (0 and 1) and RGB.
_COLOURS = {0: 1, 1: 1, 2: 3}


@dataclass(frozen=True)
class Header:
    """Size in pixels as stored in the file, and the EXIF orientation.

    orientation : 1 to 8; 1 where the file names none. From 5 on, applying it swaps width and height. Always 1 for TIFF,
                  whose decoder applies it whatever it is told; the size is that of the turned image.
    alpha       : some pixels may be transparent. Never of a BMP: few programs fill its fourth byte, few look at it
    clear_grey  : of a grey PNG without alpha channel, the level (as decoded, 8 or 16 bits) of transparent pixels
    """

    width: int
    height: int
    orientation: int = 1
    alpha: bool = False
    clear_grey: int | None = None

    def size(self, transpose: bool) -> tuple[int, int]:
        """(width, height) of the decoded image, with or without the EXIF orientation applied."""
        swap = transpose and self.orientation >= 5
        return (self.height, self.width) if swap else (self.width, self.height)


def read_header(data: bytes) -> Header | None:
    """Header of an image held in `data`; None where it is no known image or its header is cut off."""
    readers = {
        b"\xff\xd8": _jpeg,
        b"\x89PNG": _png,
        b"RIFF": _webp,
        b"BM": _bmp,
        b"II*\0": _tiff,
        b"MM\0*": _tiff,
    }
    try:
        header = next((read(data) for magic, read in readers.items() if data.startswith(magic)), None)
    except (struct.error, IndexError):
        return None
    return header if header and header.width > 0 and header.height > 0 else None


def _jpeg(data: bytes) -> Header | None:
    position, orientation = 2, 1
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == 0xE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _orientation(data[position + 10 : position + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            return Header(width, height, orientation)
        position += 2 + length
    return None


def _png(data: bytes) -> Header:
    width, height, bits, kind = struct.unpack_from(">IIBB", data, 16)
    orientation, alpha, clear_grey, position = 1, kind in (4, 6), None, 8
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + length]
        if name == b"eXIf":
            orientation = _orientation(body)
        elif name == b"tRNS":
            alpha = True
            if kind == 0:
                scale = 255 // (2**bits - 1) if bits < 8 else 1
                clear_grey = int.from_bytes(body[:2], "big") * scale
        position += 12 + length
    return Header(width, height, orientation, alpha, clear_grey)


def _webp(data: bytes) -> Header | None:
    size = None
    orientation, alpha, position = 1, False, 12
    while data[8:12] == b"WEBP" and position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if kind == b"VP8X":
            size = tuple(int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
            alpha = bool(body[0] & 0x10)
        elif kind == b"VP8 " and size is None:
            size = tuple(side & 0x3FFF for side in struct.unpack_from("<HH", body, 6))
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", body, 1)
            size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
            alpha = bool(bits >> 28 & 1)
        elif kind == b"EXIF":
            orientation = _orientation(body.removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2
    return Header(size[0], size[1], orientation, alpha) if size else None


def _bmp(data: bytes) -> Header:
    (info,) = struct.unpack_from("<I", data, 14)
    width, height = struct.unpack_from("<HH" if info == 12 else "<ii", data, 18)
    return Header(width, abs(height))


def _tiff(data: bytes) -> Header | None:
    tags = _first_directory(data)
    if _WIDTH not in tags or _HEIGHT not in tags:
        return None
    header = Header(tags[_WIDTH], tags[_HEIGHT], _valid(tags.get(_ORIENTATION)))
    # 1 and 2 are alpha; a file that does not say what its one sample too many is comes from a program that means alpha.
    colours, samples = _COLOURS.get(tags.get(_KIND, -1), 0), tags.get(_SAMPLES, 1)
    alpha = samples == colours + 1 > 1 and tags.get(_EXTRA, 2) in (1, 2)
    return Header(*header.size(transpose=True), alpha=alpha)


def _orientation(exif: bytes) -> int:
    """The orientation in an EXIF block, which is a small TIFF file; with a damaged one the image counts as upright."""
    try:
        return _valid(_first_directory(exif).get(_ORIENTATION))
    except (struct.error, IndexError):
        return 1


def _valid(orientation: int | None) -> int:
    return orientation if orientation and 1 <= orientation <= 8 else 1


def _first_directory(data: bytes) -> dict[int, int]:
    """Tag to value, for the tags of the first directory that hold one 16- or 32-bit number."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    tags = {}
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        if kind in (3, 4) and values == 1:
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    return tags
