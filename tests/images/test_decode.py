"""Decoding: one result for every kind of file, EXIF only on demand, hostile files refused. Pillow is the oracle."""

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from lib.images.decode import content_hash, content_of, decode, probe, read_image, upright
from lib.images.header import Header, read_header
from lib.stage.errors import InputError

QUARTERS = np.zeros((40, 60, 3), np.uint8)
QUARTERS[:20, :30], QUARTERS[:20, 30:] = (255, 0, 0), (0, 255, 0)
QUARTERS[20:, :30] = (0, 0, 255)


def encoded(
    kind: str, pixels: np.ndarray = QUARTERS, mode: str | None = None, orientation: int = 1, **options
) -> bytes:
    buffer = io.BytesIO()
    image = Pillow.fromarray(pixels)
    exif = Pillow.Exif()
    if orientation > 1:
        exif[274] = orientation
    (image.convert(mode) if mode else image).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_agrees_with_pillow(kind, orientation):
    data = encoded(kind, orientation=orientation, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))).convert("RGB"), np.int32)
    header = read_header(data)
    image = decode(data, "x", transpose=True)
    assert image.shape == expected.shape == (*header.size(True)[::-1], 3)
    assert np.abs(image - expected).mean() < 3
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous


@pytest.mark.parametrize("orientation", range(1, 9))
def test_stored_frame_is_kept_where_transpose_is_false(orientation):
    data = encoded("PNG", orientation=orientation)
    np.testing.assert_array_equal(decode(data, "x", transpose=False), QUARTERS)
    assert read_header(data) == Header(60, 40, orientation)


def test_case_13_phone_photo():
    data = encoded("JPEG", orientation=6)
    assert read_header(data).size(False) == (60, 40)
    assert read_header(data).size(True) == (40, 60)
    assert decode(data, "x", transpose=True).shape == (60, 40, 3)
    # Stored top left goes to the top right.
    assert decode(data, "x", transpose=True)[5, 35].argmax() == 0


def test_upright_by_hand():
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    expected = {
        1: [[0, 1, 2], [3, 4, 5]],
        2: [[2, 1, 0], [5, 4, 3]],
        3: [[5, 4, 3], [2, 1, 0]],
        4: [[3, 4, 5], [0, 1, 2]],
        5: [[0, 3], [1, 4], [2, 5]],
        6: [[3, 0], [4, 1], [5, 2]],
        7: [[5, 2], [4, 1], [3, 0]],
        8: [[2, 5], [1, 4], [0, 3]],
    }
    for orientation, turned in expected.items():
        assert upright(grid, orientation)[..., 0].tolist() == turned


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK"])
def test_every_mode_comes_out_as_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    data = encoded(kind, mode=mode)
    image = decode(data, "x", transpose=True)
    expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"), np.int32)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert np.abs(image - expected).mean() < (6 if mode == "CMYK" else 0.01)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_sixteen_bits_keep_the_upper_eight(extension, channels):
    deep = np.full((8, 9, channels), 0x4080, np.uint16).squeeze()
    image = decode(cv2.imencode(extension, deep)[1].tobytes(), "x", transpose=False)
    assert image.shape == (8, 9, 3)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) <= {0x40, 0x41}


def test_red_is_the_first_channel():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert decode(encoded("PNG", red), "x", False)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("kind", "options"),
    [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("TIFF", {}), ("WEBP", {}),
     ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"})],
)  # fmt: skip
def test_header_agrees_with_pillow(kind, options):
    data = encoded(kind, **options)
    assert read_header(data) == Header(*Pillow.open(io.BytesIO(data)).size)


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_cut_off_file_is_refused(extension, cut):
    noise = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    data = cv2.imencode(extension, noise)[1].tobytes()
    assert decode(data, "x", False).shape == (50, 70, 3)
    with pytest.raises(InputError, match=r"photos/x: "):
        decode(data[: int(len(data) * cut)], "photos/x", False)


def test_header_of_any_prefix_never_crashes():
    for kind in ("JPEG", "PNG", "BMP", "TIFF", "WEBP"):
        data = encoded(kind, orientation=6)
        for length in range(0, min(len(data), 400)):
            header = read_header(data[:length])
            assert header is None or header.width > 0


def huge_png() -> bytes:
    """A PNG header that announces 20000x20000 pixels: 57 bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    size = (20000).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + size + b"\x08\x02\0\0\0") + chunk(b"IEND", b"")


def test_case_30_huge_image_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=r"bomb.png: 20000x20000 = 400,000,000 pixels.*100,000,000.*max_pixels"):
        decode(huge_png(), "bomb.png", False, max_pixels=100_000_000)


def test_max_pixels_is_inclusive():
    data = encoded("PNG")
    assert decode(data, "x", False, max_pixels=2400).shape == (40, 60, 3)
    with pytest.raises(InputError):
        decode(data, "x", False, max_pixels=2399)


@pytest.mark.parametrize(("data", "seen"), [(b"<html>404 not found", r"b'<html>404"), (b"", "empty")])
def test_case_32_not_an_image(tmp_path, data, seen):
    (tmp_path / "404.jpg").write_bytes(data)
    with pytest.raises(InputError, match=f"404.jpg: .*{seen}"):
        read_image(tmp_path, "404.jpg", False)


def test_case_32_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"a/b.jpg: cannot be opened"):
        read_image(tmp_path, "a/b.jpg", False)


def test_case_32_any_path(tmp_path):
    name = "Ünï 图/a b.png"
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_bytes(encoded("PNG"))
    np.testing.assert_array_equal(read_image(tmp_path, name, False), QUARTERS)
    assert probe(tmp_path / name) == Header(60, 40, 1)


def test_content_is_blake2b_of_the_bytes(tmp_path):
    path = Path(tmp_path / "x")
    path.write_bytes(b"")
    assert content_hash(path) == content_of(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert content_of(b"a") != content_of(b"b")


def test_case_35_bmp_is_read():
    np.testing.assert_array_equal(decode(encoded("BMP"), "x", False), QUARTERS)
