"""Taking the wanted files out of an archive, and refusing what could land elsewhere."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.core.errors import InputError
from lib.data.unpack import unpack

KEEP = ["Annotations", "ImageSets/Main", "JPEGImages"]
FILES = {
    "Annotations/a.xml": b"<annotation/>",
    "Annotations/b.xml": b"<annotation></annotation>",
    "JPEGImages/a.jpg": b"A" * 3000,
    "JPEGImages/b.jpg": b"B" * 2000,
    "ImageSets/Main/train.txt": b"a\n",
    "ImageSets/Main/test.txt": b"b\n",
}


def tar(members: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            packed.addfile(info)
    return buffer.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return buffer.getvalue()


def inside(prefix: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{prefix}/{name}": content for name, content in files.items()}


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["../evil", "TOY/Annotations/../../../evil", "/tmp/evil", "..\\evil", "C:/evil"])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_an_archive_that_leads_outside_is_refused(tmp_path: Path, name: str, pack: Callable[..., bytes]) -> None:
    (tmp_path / "x").write_bytes(pack({name: b"evil"}))
    with pytest.raises(InputError, match="leads outside the folder"):
        unpack(tmp_path / "x", "TOY", KEEP, tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("evil"))


def test_a_link_among_the_kept_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(tar({}, {"TOY/JPEGImages/a.jpg": "/etc/hostname"}))
    with pytest.raises(InputError, match="is a link or a device"):
        unpack(tmp_path / "x", "TOY", KEEP, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [tar, zipped])
@pytest.mark.parametrize("prefix", ["TOY", "VOCdevkit/TOY", "Toy-0123abc/TOY"])
def test_only_the_kept_files_are_taken(tmp_path: Path, pack: Callable[..., bytes], prefix: str) -> None:
    other = {
        f"{prefix}/SegmentationClass/a.png": b"s",
        f"{prefix}/Annotations/._a.xml": b"mac",
        "README": b"r",
        f"{prefix}/ImageSets/Layout/train.txt": b"a",
    }
    (tmp_path / "x").write_bytes(pack(inside(prefix) | other))
    unpack(tmp_path / "x", "TOY", KEEP, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("body", [b"<html>not here</html>", zipped(inside("TOY"))[:-30], tar(inside("TOY"))[:700]])
def test_what_is_no_whole_archive_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(body)
    with pytest.raises(InputError, match=r"x\.zip.*(neither tar nor zip|cannot be read)"):
        unpack(tmp_path / "x.zip", "TOY", KEEP, tmp_path / "out")
