"""One file over HTTP: resumed where it broke off, tried again, and renamed to its name only once it is verified."""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

CHUNK = 2**20


class Unavailable(Exception):
    """No address delivered the file; the message gives the reason for each address."""


def download(
    urls: Sequence[str], target: Path, expected: Mapping[str, int | str],
    attempts: int = 5, pause_s: float = 2.0, timeout_s: float = 60.0,
) -> None:
    """Downloads `target` from the first address that delivers it.

    expected : what `mismatch` checks; may be empty
    attempts : rounds over the addresses, with pauses of pause_s, 2·pause_s, 4·pause_s … between them
    timeout_s : longest silence of a server

    Bytes collect in `target`.part, so that a later call resumes where this one was killed. A whole file that fails the
    check is set aside as `target`.wrong, and the next address starts from zero. Raises Unavailable.
    """
    part, reason_of = target.with_name(f"{target.name}.part"), dict[str, str]()
    hopeless: set[str] = set()
    for attempt in range(attempts):
        for url in urls:
            if url in hopeless:
                continue
            resumed = part.exists()
            try:
                _pull(url, part, expected.get("bytes"), timeout_s)
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason_of[url] = f"{type(error).__name__}: {error}"
                if _hopeless(error):
                    hopeless.add(url)
                continue
            problem = mismatch(part, expected)
            if not problem:
                os.replace(part, target)
                return
            os.replace(part, target.with_name(f"{target.name}.wrong"))
            reason_of[url] = f"{problem}; kept as {target}.wrong"
            if not resumed:  # else the old bytes may be the wrong ones
                hopeless.add(url)
        if hopeless.issuperset(urls):
            break
        if attempt + 1 < attempts:
            time.sleep(pause_s * 2**attempt)
    reasons = [f"{url}: {reason}" for url, reason in reason_of.items()]
    raise Unavailable("; ".join(reasons) or "there is no address")


def mismatch(path: Path, expected: Mapping[str, int | str]) -> str:
    """What is wrong with a file, or "".

    expected : any of bytes (size), sha256, md5 (hexadecimal digits); one pass over the file checks all
    """
    size = path.stat().st_size
    if size != expected.get("bytes", size):
        return f"has {size} bytes instead of {expected['bytes']}"
    names = [name for name in ("sha256", "md5") if expected.get(name)]
    digests = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    if digests:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                for digest in digests.values():
                    digest.update(block)
    differences = [f"{name} is {digest.hexdigest()} instead of {expected[name]}"
                   for name, digest in digests.items() if digest.hexdigest() != expected[name]]
    return ", ".join(differences)


def _hopeless(error: Exception) -> bool:
    """Whether asking the same address again cannot help."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, 429)
    return isinstance(error, ValueError)


def _pull(url: str, part: Path, size: int | str | None, timeout_s: float) -> None:
    """Appends to `part` what is missing.

    Raises OSError or HTTPException where the server stops early, ValueError where it offers another size.
    """
    received = part.stat().st_size if part.exists() else 0
    if received and received == size:
        return
    # Some mirrors refuse urllib's own user agent.
    headers = {"User-Agent": "Mozilla/5.0 (compatible; object-detectors)"}
    if received:
        headers["Range"] = f"bytes={received}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing follows the bytes received: the file is complete, or it is another file.
        total = re.search(r"\*/(\d+)$", error.headers.get("Content-Range", ""))
        if total and int(total[1]) == received:
            return
        part.unlink()
        raise ConnectionError(f"the server refuses to resume at byte {received}; starting over") from error
    with answer:
        start = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        resumed = answer.status == 206 and start is not None and int(start[1]) == received
        received = received if resumed else 0
        length = answer.headers.get("Content-Length")
        total_bytes = received + int(length) if length else None
        if size is not None and total_bytes is not None and total_bytes != size:
            raise ValueError(f"offers {total_bytes} bytes instead of {size}")
        with (
            part.open("ab" if resumed else "wb") as file,
            tqdm(desc=part.stem, total=total_bytes, initial=received, unit="B", unit_scale=True) as bar,
        ):
            while block := answer.read(CHUNK):
                file.write(block)
                bar.update(len(block))
                received += len(block)
    if total_bytes is not None and received < total_bytes:
        raise http.client.IncompleteRead(b"", total_bytes - received)
