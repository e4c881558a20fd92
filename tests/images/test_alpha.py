"""Transparent pixels become white in every kind of file; the image without any is what it was. Hand-made files, and the
formula worked out; Pillow's own composition is the twin."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from lib.images.decode import decode
from lib.images.header import read_header
from lib.stage.errors import InputError

RED = np.zeros((6, 8, 4), np.uint8)
RED[..., 0], RED[..., 3] = 255, 255
HIDDEN = RED.copy()
HIDDEN[:, :4, 3] = 0
HIDDEN[0, 0, 3] = 128
OPAQUE, CLEAR, HALF = [255, 0, 0], [255, 255, 255], [255, 127, 127]  # 255 + (0 - 255) * 128 / 255 = 127


def saved(kind, pixels, mode="RGBA", **options):
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def by_opencv(extension, pixels):
    return cv2.imencode(extension, np.ascontiguousarray(pixels[..., [2, 1, 0, 3]]))[1].tobytes()


def png(bits, kind, rows, transparent=b""):
    """A PNG of one pixel row, two pixels wide, from the bytes of its row."""

    def chunk(name, body):
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"tRNS", transparent) if transparent else b""]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IDAT", zlib.compress(b"\0" + rows)), chunk(b"IEND", b"")])


FILES = {
    "PNG": saved("PNG", HIDDEN),
    "16-bit PNG": by_opencv(".png", HIDDEN.astype(np.uint16) * 257),
    "WebP": saved("WEBP", HIDDEN, lossless=True),
    "WebP with hidden colours": saved("WEBP", HIDDEN, lossless=True, exact=True),
    "TIFF": saved("TIFF", HIDDEN),
    "packed TIFF": saved("TIFF", HIDDEN, compression="tiff_lzw"),
    "TIFF of OpenCV": by_opencv(".tif", HIDDEN),
    "16-bit TIFF": by_opencv(".tif", HIDDEN.astype(np.uint16) * 257),
}


@pytest.mark.parametrize("name", FILES)
def test_case_103_hidden_colours_become_white(name):
    assert read_header(FILES[name]).alpha
    image = decode(FILES[name], "x", transpose=False)
    assert image.shape == (6, 8, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert (image[0, 0].tolist(), image[3, 1].tolist(), image[3, 6].tolist()) == (HALF, CLEAR, OPAQUE)


def test_case_103_lossy_webp_is_white_where_clear():
    image = decode(saved("WEBP", HIDDEN), "x", transpose=False)
    assert (image[3, 1].tolist(), image[3, 6].argmax()) == (CLEAR, 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_case_103_grey_with_alpha(kind):
    image = decode(saved(kind, HIDDEN, "LA"), "x", transpose=False)  # red has a luminance of 76
    assert [image[spot].tolist() for spot in ((0, 0), (3, 1), (3, 6))] == [[165] * 3, CLEAR, [76] * 3]


def test_case_103_a_palette_with_half_and_wholly_transparent_colours():
    quarters = Pillow.new("P", (8, 6), 0)
    quarters.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    quarters.paste(1, (0, 0, 4, 6))
    quarters.paste(2, (4, 0, 6, 6))
    buffer = io.BytesIO()
    quarters.save(buffer, "PNG", transparency=bytes([255, 0, 128]))
    image = decode(buffer.getvalue(), "x", transpose=False)
    assert [image[0, column].tolist() for column in (7, 0, 5)] == [OPAQUE, CLEAR, [127, 127, 255]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (png(8, 0, bytes([76, 77]), struct.pack(">H", 76)), [255, 77]),
        (png(4, 0, bytes([0x3A]), struct.pack(">H", 3)), [255, 0xAA]),
        (png(2, 0, bytes([0b01_10_0000]), struct.pack(">H", 2)), [85, 255]),
        (png(1, 0, bytes([0x40]), struct.pack(">H", 0)), [255, 255]),
        (png(16, 0, struct.pack(">HH", 0x4080, 0x4081), struct.pack(">H", 0x4080)), [255, 0x40]),
        (png(8, 2, bytes([9, 9, 9, 9, 9, 8]), struct.pack(">HHH", 9, 9, 8)), [9, 255]),
        (png(16, 2, struct.pack(">6H", *[0x4080] * 5, 0x4081), struct.pack(">HHH", *[0x4080] * 3)), [255, 0x40]),
        (png(16, 4, struct.pack(">4H", 0x4080, 0, 0x8000, 0xFFFF)), [255, 0x80]),
    ],
)
def test_case_103_one_transparent_level_or_colour(data, expected):
    assert decode(data, "x", transpose=False)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_case_103_alpha_turns_with_its_image(kind, orientation):
    exif = Pillow.Exif()
    exif[274] = orientation
    data = saved(kind, HIDDEN, exif=exif, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGBA"))
    image = decode(data, "x", transpose=True)
    assert image.shape == (*expected.shape[:2], 3)
    np.testing.assert_array_equal(np.all(image == CLEAR, axis=2), expected[..., 3] == 0)
    np.testing.assert_array_equal(np.all(image == OPAQUE, axis=2), expected[..., 3] == 255)


@pytest.mark.parametrize("name", ["PNG", "WebP", "TIFF", "TIFF of OpenCV", "16-bit PNG", "16-bit TIFF"])
def test_case_103_without_a_transparent_pixel_the_bytes_are_as_before(name):
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 4), np.uint8)
    noise[..., 3] = 255
    deep = noise.astype(np.uint16) * 256 + 255  # the one decoder rounds to 8 bits, the other cuts
    data = {
        "PNG": saved("PNG", noise), "WebP": saved("WEBP", noise), "TIFF": saved("TIFF", noise),
        "TIFF of OpenCV": by_opencv(".tif", noise),
        "16-bit PNG": by_opencv(".png", deep), "16-bit TIFF": by_opencv(".tif", deep),
    }[name]  # fmt: skip
    before = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[..., ::-1]
    np.testing.assert_array_equal(decode(data, "x", transpose=False), before)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_case_103_pillows_composition_is_the_twin(kind):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 4), np.uint8)
    data = saved(kind, pixels, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    white = Pillow.new("RGBA", (30, 20), (255, 255, 255, 255))
    expected = np.asarray(Pillow.alpha_composite(white, Pillow.fromarray(pixels)).convert("RGB"), np.int32)
    assert np.abs(decode(data, "x", transpose=False) - expected).max() <= 1


def test_case_103_files_without_alpha_are_decoded_once(monkeypatch):
    calls = []
    decoder = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *words: calls.append(words) or decoder(*words))
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP"):
        data = saved(kind, RED, "RGB")
        assert not read_header(data).alpha
        decode(data, "x", transpose=False)
    assert len(calls) == 5


def test_case_103_the_fourth_byte_of_a_bmp_is_no_alpha():
    empty = by_opencv(".bmp", HIDDEN)
    assert not read_header(empty).alpha
    assert decode(empty, "x", transpose=False)[3, 1].tolist() == OPAQUE


def test_case_103_a_fourth_sample_of_a_tiff_that_is_said_to_be_no_alpha():
    buffer = io.BytesIO()
    Pillow.frombytes("RGBX", (8, 6), HIDDEN.tobytes()).save(buffer, "TIFF")
    assert Pillow.open(io.BytesIO(buffer.getvalue())).tag_v2[338] == (0,)
    assert not read_header(buffer.getvalue()).alpha
    np.testing.assert_array_equal(decode(buffer.getvalue(), "x", transpose=False), HIDDEN[..., :3])


def test_case_103_transparency_that_cannot_be_read_is_named(monkeypatch):
    def fails(*_):
        raise OSError("unknown pixel mode")

    monkeypatch.setattr(Pillow, "open", fails)
    with pytest.raises(InputError, match=r"a/b.tif: its transparency cannot be read \(unknown pixel mode\)"):
        decode(FILES["TIFF"], "a/b.tif", transpose=False)
