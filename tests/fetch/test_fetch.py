"""Fetching a data set: from archives, over HTTP (loopback only) or at hand, and from folders."""

import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from lib.fetch import fetch as subject
from lib.stage.errors import InputError
from tests.fetch.archives import FILES, KEEP, tar

BCCD = Path("../shared/data/bccd")


class Site:
    """A folder over HTTP: `files` are what it serves, `url` is where."""

    def __init__(self, root: Path) -> None:
        self.root = root
        handler = functools.partial(Quiet, directory=str(root))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    running = Site(tmp_path_factory.mktemp("site"))
    yield running
    running.server.shutdown()
    running.server.server_close()


def known(body: bytes) -> dict[str, int | str]:
    return {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest(), "md5": hashlib.md5(body).hexdigest()}


def inside(prefix: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{prefix}/{name}": content for name, content in files.items()}


def on_disk(root: Path, files: dict[str, bytes] = FILES) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def source(*archives: dict[str, Any], manifest: str = "") -> subject.Source:
    return subject.Source(
        name="toy",
        folder="TOY",
        keep=KEEP,
        archives=[subject.Archive(**archive) for archive in archives],
        files={"Annotations": 2, "JPEGImages": 2},
        lists={"train.txt": 1, "test.txt": 1},
        manifest=manifest,
    )


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_fetch_over_http_and_again_without_it(site: Site, tmp_path: Path) -> None:
    bodies = {
        "one.tar": tar(inside("VOCdevkit/TOY", {k: v for k, v in FILES.items() if "test" not in k})),
        "two.tar": tar({"VOCdevkit/TOY/ImageSets/Main/test.txt": b"b\n"}),
    }
    on_disk(site.root, bodies)
    toy = source(*({"file": name, "urls": [f"{site.url}/{name}"], **known(body)} for name, body in bodies.items()))
    subject.fetch(toy, tmp_path / "VOCdevkit", tmp_path / "downloads")
    assert contents(tmp_path / "VOCdevkit/TOY") == FILES
    before = contents(tmp_path / "VOCdevkit")
    shutil.rmtree(site.root)
    subject.fetch(toy, tmp_path / "next", tmp_path / "empty", previous=tmp_path / "VOCdevkit")
    assert contents(tmp_path / "next") == before
    (tmp_path / "VOCdevkit/TOY/JPEGImages/a.jpg").write_bytes(b"edited")
    with pytest.raises(InputError, match="could not be downloaded"):
        subject.fetch(toy, tmp_path / "next", tmp_path / "empty", previous=tmp_path / "VOCdevkit", pause_s=0.01)


def test_without_a_network_the_error_says_what_to_put_where(tmp_path: Path) -> None:
    archives = [
        {"file": name, "urls": [f"http://127.0.0.1:9/{name}"], "bytes": 10, "md5": "0" * 32}
        for name in ("one.tar", "two.tar")
    ]
    with pytest.raises(InputError) as error:
        subject.fetch(source(*archives), tmp_path / "out", tmp_path / "downloads", attempts=2, pause_s=0.01)
    first, second = str(error.value).splitlines()
    assert first.startswith("toy: one.tar: could not be downloaded (http://127.0.0.1:9/one.tar: ")
    assert f"Allowed: the archive with bytes 10, md5 {'0' * 32}, or the unpacked folder TOY." in first
    assert (
        "put it into any folder F and set the environment variable RCNN_DATA=F (F/one.tar, or unpacked F/TOY)" in first
    )
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


def test_a_download_without_digest_that_proves_wrong_is_not_kept_under_its_name(site: Site, tmp_path: Path) -> None:
    on_disk(site.root, {"toy.zip": tar(inside("TOY", {"Annotations/a.xml": b"<annotation/>"}))})
    toy = source({"file": "toy.zip", "urls": [f"{site.url}/toy.zip"]})
    with pytest.raises(InputError, match="holds 1 files"):
        subject.fetch(toy, tmp_path / "out", tmp_path / "downloads")
    assert os.listdir(tmp_path / "downloads") == ["toy.zip.wrong"]
    on_disk(site.root, {"toy.zip": tar(inside("Toy-main/TOY"))})
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
    with pytest.raises(InputError, match=r"archives\.0\.sha265: is not a setting"):
        subject.read_source(tmp_path / "source.yaml")


@pytest.mark.skipif(not BCCD.is_dir(), reason="needs ../shared/data/bccd")
def test_bccd_at_hand(tmp_path: Path) -> None:
    shipped = subject.read_source("data/bccd/source.yaml")
    subject.fetch(shipped, tmp_path / "VOCdevkit", tmp_path / "downloads", BCCD.parent)
    assert len(list((tmp_path / "VOCdevkit/BCCD/JPEGImages").iterdir())) == 364
    assert os.listdir(tmp_path / "downloads") == []
