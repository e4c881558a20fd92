"""One file over HTTP, with every way it goes wrong. Loopback only."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lib.fetch.download import Unavailable, download, mismatch

BODY = bytes(range(256)) * 1000


class Server(ThreadingHTTPServer):
    """Serves `files`; `cuts` lists after how many bytes the next answers break off; notes the Range of each request."""

    def __init__(self, files: dict[str, bytes], ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.ranges = files, ranges
        self.cuts: list[int] = []
        self.requested: list[str | None] = []
        self.stall_at: int | None = None
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.requested.append(wanted)
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
        if self.server.stall_at is not None:
            self.wfile.write(body[start : self.server.stall_at])
            while self.server.stall_at is not None:
                time.sleep(0.02)
            return
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
    assert server.requested == [None, "bytes=100000-", "bytes=150000-"]


def test_what_a_killed_run_left_is_resumed(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve({"x.tar": BODY})
    (tmp_path / "x.tar.part").write_bytes(BODY[:1234])
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert server.requested == ["bytes=1234-"]


def test_kill_9_in_the_middle_of_a_download(serve: Callable[..., Server], tmp_path: Path) -> None:
    body = BODY * 20
    server = serve({"x.tar": body})
    server.stall_at = 3 * 2**20
    call = "import sys; from pathlib import Path; from lib.fetch.download import download; "
    call += "download([sys.argv[1]], Path(sys.argv[2]), {})"
    child = subprocess.Popen([sys.executable, "-c", call, f"{server.url}/x.tar", str(tmp_path / "x.tar")])
    part = tmp_path / "x.tar.part"
    deadline = time.monotonic() + 60
    while (not part.exists() or part.stat().st_size == 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    child.kill()
    child.wait()
    received = part.stat().st_size
    assert 0 < received < len(body)
    server.stall_at = None
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(body))
    assert (tmp_path / "x.tar").read_bytes() == body
    assert server.requested == [None, f"bytes={received}-"]


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
    assert len(server.requested) == (1 if left == len(BODY) else 2)


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
    assert len(server.requested) == 1


def test_the_next_address_is_taken_after_a_wrong_a_short_and_a_missing_file(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve({"wrong": b"X" + BODY[1:], "short": b"<html>moved</html>", "good": BODY})
    urls = [f"{server.url}/{name}" for name in ("missing", "short", "wrong", "good")]
    download(urls, tmp_path / "x.tar", known(BODY))
    assert (tmp_path / "x.tar").read_bytes() == BODY
    assert len(server.requested) == 4


def test_a_damaged_part_costs_one_more_download(serve: Callable[..., Server], tmp_path: Path) -> None:
    """The file ends wrong because of the old bytes, so the same address gets a fresh start."""
    server = serve({"x.tar": BODY})
    (tmp_path / "x.tar.part").write_bytes(b"z" * 1234)
    download([f"{server.url}/x.tar"], tmp_path / "x.tar", known(BODY), pause_s=0.01)
    assert server.requested == ["bytes=1234-", None]
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
