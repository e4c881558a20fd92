"""Fetching a data set: over HTTP with every way it goes wrong, from archives, from folders. Loopback only."""

import hashlib
import io
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lib.core.errors import InputError
from lib.data import fetch as subject
from lib.data.download import Unavailable, download, mismatch
from lib.data.unpack import unpack

BODY = bytes(range(256)) * 1000
KEEP = ["Annotations", "ImageSets/Main", "JPEGImages"]
BCCD = Path("../shared/data/bccd")
FILES = {
    "Annotations/a.xml": b"<annotation/>", "Annotations/b.xml": b"<annotation></annotation>",
    "JPEGImages/a.jpg": b"A" * 3000, "JPEGImages/b.jpg": b"B" * 2000,
    "ImageSets/Main/train.txt": b"a\n", "ImageSets/Main/test.txt": b"b\n",
}


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` lists after how many bytes the next answers break off; notes the Range of each request."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges = files, ranges
        self.cuts: list[int] = []
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        body = self.server.files.get(self.path[1:])
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start and start >= len(body):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(body)}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = start + self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.wfile.write(body[start:stop])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(files: dict[str, bytes], ranges: bool = True) -> Server:
        server = Server(files, ranges)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def known(body: bytes) -> dict[str, int | str]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "md5": hashlib.md5(body).hexdigest()}


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


def on_disk(root: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def source(*archives: dict[str, Any], manifest: str = "") -> subject.Source:
    return subject.Source(
        name="toy", folder="TOY", keep=KEEP, archives=[subject.Archive(**archive) for archive in archives],
        files={"Annotations": 2, "JPEGImages": 2}, lists={"train.txt": 1, "test.txt": 1}, manifest=manifest,
    )


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# Download


def test_a_whole_download_is_verified_and_named(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": BODY})
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert os.listdir(tmp_path) == ["x.tar"]


def test_a_server_that_breaks_off_is_resumed(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": BODY})
    server.cuts = [100_000, 50_000]
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY), pause_s=0.01)
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_what_a_killed_run_left_is_resumed(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": BODY})
    (tmp_path / "x.tar.part").write_bytes(BODY[:1234])
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert server.asked == ["bytes=1234-"]


def test_a_part_that_is_whole_needs_no_server(tmp_path: Path) -> None:
    (tmp_path / "x.tar.part").write_bytes(BODY)
    download(["http://127.0.0.1:9/x.tar"], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY


@pytest.mark.parametrize("left", [len(BODY), len(BODY) + 5])
def test_a_part_of_unknown_size_at_or_past_the_end(serve: Callable[..., Server], tmp_path: Path, left: int) -> None:
    """416: whole if the server's total says so, else begun anew."""
    server = serve({"x.zip": BODY})
    (tmp_path / "x.zip.part").write_bytes((BODY + b"extra")[:left])
    download([f"{server.url}/x.zip"], tmp_path / "x.zip", {}, pause_s=0.01)
    assert (tmp_path / "x.zip").read_bytes() == BODY
    assert len(server.asked) == (1 if left == len(BODY) else 2)


def test_a_server_without_ranges_starts_over(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": BODY}, ranges=False)
    (tmp_path / "x.tar.part").write_bytes(b"z" * 1234)
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY


def test_a_wrong_file_is_refused_and_set_aside(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": b"X" + BODY[1:]})
    with pytest.raises(Unavailable, match=r"sha256 is \w+ instead of .*x\.tar\.wrong"):
        download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY), pause_s=0.01)
    assert os.listdir(tmp_path) == ["x.tar.wrong"]
    assert len(server.asked) == 1


def test_the_next_address_is_taken_after_a_wrong_a_short_and_a_missing_file(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve({"wrong": b"X" + BODY[1:], "short": b"<html>moved</html>", "good": BODY})
    urls = [f"{server.url}/{name}" for name in ("missing", "short", "wrong", "good")]
    download(urls, tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert len(server.asked) == 4


def test_a_damaged_part_costs_one_more_download(serve: Callable[..., Server], tmp_path: Path) -> None:
    """The first address ends wrong because of the old bytes; the second gets a fresh start."""
    server = serve({"x.tar": BODY})
    (tmp_path / "x.tar.part").write_bytes(b"z" * 1234)
    download([f"{server.url}/x.tar", f"{server.url}/x.tar?again"[:-6]], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY


def test_mismatch_by_hand(tmp_path: Path) -> None:
    """md5 and sha256 of the empty file are well known."""
    path = tmp_path / "empty"
    path.touch()
    sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert mismatch(path, {"bytes": 0, "md5": "d41d8cd98f00b204e9800998ecf8427e", "sha256": sha}) == ""
    assert mismatch(path, {}) == ""
    assert mismatch(path, {"bytes": 1}) == "has 0 bytes instead of 1"
    assert mismatch(path, {"md5": "0" * 32}) == f"md5 is d41d8cd98f00b204e9800998ecf8427e instead of {'0' * 32}"


# Unpacking


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
    other = {f"{prefix}/SegmentationClass/a.png": b"s", f"{prefix}/Annotations/._a.xml": b"mac", "README": b"r",
             f"{prefix}/ImageSets/Layout/train.txt": b"a"}
    (tmp_path / "x").write_bytes(pack(inside(prefix) | other))
    unpack(tmp_path / "x", "TOY", KEEP, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("body", [b"<html>not here</html>", zipped(inside("TOY"))[:-30], tar(inside("TOY"))[:700]])
def test_what_is_no_whole_archive_is_named(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(body)
    with pytest.raises(InputError, match=r"x\.zip.*(neither tar nor zip|cannot be read)"):
        unpack(tmp_path / "x.zip", "TOY", KEEP, tmp_path / "out")


# The whole way


def test_fetch_over_http_and_again_without_it(serve: Callable[..., Server], tmp_path: Path) -> None:
    bodies = {"one.tar": tar(inside("VOCdevkit/TOY", {k: v for k, v in FILES.items() if "test" not in k})),
              "two.tar": tar({"VOCdevkit/TOY/ImageSets/Main/test.txt": b"b\n"})}
    server = serve(bodies)
    toy = source(*({"file": name, "urls": [f"{server.url}/{name}"], **known(body)} for name, body in bodies.items()))
    subject.fetch(toy, tmp_path / "VOCdevkit", tmp_path / "downloads")
    assert contents(tmp_path / "VOCdevkit/TOY") == FILES
    before = contents(tmp_path / "VOCdevkit")
    server.files.clear()
    subject.fetch(toy, tmp_path / "next", tmp_path / "empty", previous=tmp_path / "VOCdevkit")
    assert contents(tmp_path / "next") == before
    (tmp_path / "VOCdevkit/TOY/JPEGImages/a.jpg").write_bytes(b"edited")
    with pytest.raises(InputError, match="could not be downloaded"):
        subject.fetch(toy, tmp_path / "next", tmp_path / "empty", previous=tmp_path / "VOCdevkit", pause_s=0.01)


def test_without_a_network_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    archives = [{"file": name, "urls": [f"http://127.0.0.1:9/{name}"], "bytes": 10, "md5": "0" * 32}
                for name in ("one.tar", "two.tar")]
    with pytest.raises(InputError) as error:
        subject.fetch(source(*archives), tmp_path / "out", tmp_path / "downloads", attempts=2, pause_s=0.01)
    first, second = str(error.value).splitlines()
    assert first.startswith("toy: one.tar: could not be downloaded (http://127.0.0.1:9/one.tar: ")
    assert f"Allowed: the archive with bytes 10, md5 {'0' * 32}, or the unpacked folder TOY." in first
    assert "put it into any folder F and set the environment variable RCNN_DATA=F (F/one.tar, or unpacked F/TOY)" in first
    assert "two.tar" in second
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["toy.tar", "toy/toy.tar"])
def test_an_archive_at_hand(tmp_path: Path, place: str) -> None:
    body = tar(inside("VOCdevkit/TOY"))
    on_disk(tmp_path / "hand", {place: body})
    toy = source({"file": "toy.tar", "urls": [], **known(body)})
    subject.fetch(toy, tmp_path / "out", tmp_path / "downloads", tmp_path / "hand")
    assert contents(tmp_path / "out/TOY") == FILES
    subject.fetch(toy, tmp_path / "out2", tmp_path / "downloads", tmp_path / "hand" / place)
    assert contents(tmp_path / "out2") == contents(tmp_path / "out")
    (tmp_path / "hand" / place).write_bytes(body + b"x")
    with pytest.raises(InputError, match=rf"toy\.tar: has {len(body) + 1} bytes instead of {len(body)}"):
        subject.fetch(toy, tmp_path / "out3", tmp_path / "downloads", tmp_path / "hand")


@pytest.mark.parametrize("place", [".", "toy", "TOY", "VOCdevkit/TOY", "toy/VOCdevkit/TOY", "toy/TOY"])
def test_a_folder_at_hand(tmp_path: Path, place: str) -> None:
    on_disk(tmp_path / "hand" / place, FILES | {"Annotations/.DS_Store": b"mac", "notes.txt": b"mine"})
    subject.fetch(source(), tmp_path / "out", tmp_path / "downloads", tmp_path / "hand")
    assert contents(tmp_path / "out/TOY") == FILES


def test_a_folder_that_is_not_the_original_is_refused_with_every_difference(tmp_path: Path) -> None:
    changed = {k: v for k, v in FILES.items() if k != "JPEGImages/b.jpg"} | {"ImageSets/Main/train.txt": b"a\nb\n"}
    on_disk(tmp_path / "hand", changed)
    with pytest.raises(InputError) as error:
        subject.fetch(source(), tmp_path / "out", tmp_path / "downloads", tmp_path / "hand")
    assert "JPEGImages: holds 1 files. Allowed: 2 files." in str(error.value)
    assert "ImageSets/Main/train.txt: has 2 lines. Allowed: 1 lines." in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_manifest_by_hand_and_as_a_check(tmp_path: Path) -> None:
    lines = "".join(f"{name}\0{hashlib.sha256(FILES[name]).hexdigest()}\n" for name in sorted(FILES))
    right = hashlib.sha256(lines.encode()).hexdigest()
    hand = on_disk(tmp_path / "hand")
    assert subject.manifest(hand, KEEP) == right
    subject.fetch(source(manifest=right), tmp_path / "out", tmp_path / "downloads", hand)
    (hand / "JPEGImages/b.jpg").write_bytes(b"C" * 2000)
    with pytest.raises(InputError, match=f"manifest: is .* Allowed: {right}"):
        subject.fetch(source(manifest=right), tmp_path / "out", tmp_path / "downloads", hand)
    assert contents(tmp_path / "out/TOY") == FILES  # the older result stands


def test_a_download_without_digest_that_proves_wrong_is_not_kept_under_its_name(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve({"toy.zip": zipped(inside("TOY", {"Annotations/a.xml": b"<annotation/>"}))})
    toy = source({"file": "toy.zip", "urls": [f"{server.url}/toy.zip"]})
    with pytest.raises(InputError, match="holds 1 files"):
        subject.fetch(toy, tmp_path / "out", tmp_path / "downloads")
    assert os.listdir(tmp_path / "downloads") == ["toy.zip.wrong"]
    server.files["toy.zip"] = zipped(inside("Toy-main/TOY"))
    subject.fetch(toy, tmp_path / "out", tmp_path / "downloads")
    assert contents(tmp_path / "out/TOY") == FILES


def test_what_a_killed_run_left_beside_the_result_is_cleared(tmp_path: Path) -> None:
    on_disk(tmp_path / ".out.new/TOY", {"JPEGImages/stale.jpg": b"half"})
    subject.fetch(source(), tmp_path / "out", tmp_path / "downloads", on_disk(tmp_path / "hand"))
    assert contents(tmp_path / "out/TOY") == FILES
    assert not (tmp_path / ".out.new").exists()


def test_a_missing_folder_at_hand_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"RCNN_DATA: is .*nowhere, which is not there"):
        subject.fetch(source(), tmp_path / "out", tmp_path / "downloads", tmp_path / "nowhere")


# The sources that are shipped


@pytest.mark.parametrize("name", ["voc2007", "voc2012", "bccd"])
def test_shipped_sources_are_complete(name: str) -> None:
    shipped = subject.read_source(f"data/{name}/source.yaml")
    assert shipped.name == name
    assert all(archive.urls for archive in shipped.archives)
    assert shipped.manifest or all(archive.sha256 and archive.md5 for archive in shipped.archives)
    assert shipped.lists["trainval.txt"] == shipped.lists["train.txt"] + shipped.lists["val.txt"]


def test_a_slip_in_a_source_is_named(tmp_path: Path) -> None:
    values = YAML(typ="safe", pure=True).load(Path("data/bccd/source.yaml"))
    with (tmp_path / "source.yaml").open("wb") as file:
        YAML().dump(values | {"mirror": "x"}, file)
    with pytest.raises(InputError, match=r"source\.yaml: mirror is not|source\.yaml: mirror: is not"):
        subject.read_source(tmp_path / "source.yaml")
    values["archives"][0]["sha265"] = "0"
    with (tmp_path / "source.yaml").open("wb") as file:
        YAML().dump(values, file)
    with pytest.raises(InputError, match="Did you mean sha256"):
        subject.read_source(tmp_path / "source.yaml")


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs ../shared/data/bccd")
def test_bccd_at_hand(tmp_path: Path) -> None:
    shipped = subject.read_source("data/bccd/source.yaml")
    subject.fetch(shipped, tmp_path / "VOCdevkit", tmp_path / "downloads", BCCD.parent)
    assert len(list((tmp_path / "VOCdevkit/BCCD/JPEGImages").iterdir())) == 364
    assert os.listdir(tmp_path / "downloads") == []
