"""Taking the wanted files out of an archive, and refusing what could land elsewhere."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.fetch.unpack import unpack
from lib.stage.errors import InputError
from tests.fetch.archives import FILES, KEEP, tar


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
