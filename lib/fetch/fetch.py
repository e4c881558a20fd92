"""Puts a public data set into place as a VOCdevkit folder, from a local copy at hand or by download.

What to fetch and how to check it is in the data set's `source.yaml`:

    name      : of the data set, as in data/NAME
    folder    : of the data set inside VOCdevkit, for example VOC2007
    keep      : the parts that are kept, POSIX paths below that folder
    archives  : for each its file name, addresses (urls), and what is known of bytes, sha256, md5
    files     : kept part -> number of files
    lists     : image list in ImageSets/Main -> number of lines
    manifest  : sha256 over the kept files' names and contents (`manifest`), or "" where it is not known
"""

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from lib.fetch.download import Unavailable, download, mismatch
from lib.fetch.unpack import copy, kept_files, unpack
from lib.stage import params
from lib.stage.errors import Fault, InputError
from lib.storage.tables import read_json, write_json

AT_HAND = "RCNN_DATA"
RECORD = "manifest.json"


class Archive(params.Settings):
    """One archive of a source."""

    file: str
    urls: list[str]
    bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    md5: str | None = Field(default=None, pattern=r"^[0-9a-f]{32}$")

    @property
    def expected(self) -> dict[str, int | str]:
        """For `mismatch`."""
        known = {"bytes": self.bytes, "sha256": self.sha256, "md5": self.md5}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True)
class Source:
    """A checked source.yaml; the keys are explained at the top of this module."""

    name: str
    folder: str
    keep: list[str]
    archives: list[Archive]
    files: dict[str, int]
    lists: dict[str, int]
    manifest: str

    @property
    def disk(self) -> int:
        """Bytes on disk while fetching: the archives and about as much again unpacked."""
        return 2 * sum(archive.bytes or 0 for archive in self.archives)


def read_source(path: Path | str) -> Source:
    """Raises InputError for a missing or unknown key or a wrong type."""
    values = params.load(path)
    schema: dict[str, Any] = {"name": str, "folder": str, "keep": list[str], "archives": list[Archive],
                              "files": dict[str, int], "lists": dict[str, int], "manifest": str}
    checked = params.validate(values, schema, str(path))
    unknown = params.unread(values, set(schema), str(path))
    if unknown:
        raise InputError(unknown)
    return Source(**checked)


def fetch(
    source: Source, destination: Path | str, downloads: Path | str,
    at_hand: Path | str | None = None, previous: Path | str | None = None, **network: Any,
) -> None:
    """Makes `destination` the VOCdevkit folder of a source, replacing what is there at the very end.

    downloads : folder for archives and their unfinished parts; keep it, and the next run resumes a killed one
    at_hand   : what the environment variable RCNN_DATA names: the data set's folder, a folder that holds it
                under the source's name or folder name, or one that holds its archives (or one archive file)
    previous  : an earlier result, reused where it still matches its own manifest
    network   : attempts, pause_s, timeout_s of `download`

    Raises InputError where the data cannot be obtained or are not what the source says.
    """
    destination, downloads = Path(destination), Path(downloads)
    hand = Path(at_hand) if at_hand else None
    if hand is not None and not hand.exists():
        raise InputError([Fault("missing folder", AT_HAND, f"is {hand}, which is not there",
                                "a folder or an archive", f"Correct or unset {AT_HAND}")])
    downloads.mkdir(parents=True, exist_ok=True)
    fresh = destination.with_name(f".{destination.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    root = fresh / source.folder
    root.mkdir(parents=True)
    folder = _folder(source, hand)
    if previous is not None and _unchanged(source, Path(previous)):
        folder = Path(previous) / source.folder
    if folder is not None:
        copy(folder, source.keep, root)
        check(source, root, str(folder))
    else:
        _from_archives(source, root, _archives(source, hand, downloads, network), downloads)
    write_json(fresh / RECORD, {"name": source.name, "sha256": manifest(root, source.keep)})
    if destination.exists():
        shutil.rmtree(destination)
    os.replace(fresh, destination)


def check(source: Source, root: Path, origin: str) -> None:
    """Compares a data set's folder with its source: counts of files and lines, and the manifest where known.

    root : the folder to check;  origin : what it was made from, for the message
    Raises InputError with every difference.
    """
    problems = []
    for part, count in source.files.items():
        counted = len(kept_files(root, [part]))
        if counted != count:
            problems.append((part, f"holds {counted} files", f"{count} files"))
    for name, count in source.lists.items():
        path = root / "ImageSets" / "Main" / name
        counted = len(path.read_text(encoding="utf-8").splitlines()) if path.exists() else 0
        if counted != count:
            problems.append((f"ImageSets/Main/{name}", f"has {counted} lines", f"{count} lines"))
    if not problems and source.manifest:
        digest = manifest(root, source.keep)
        if digest != source.manifest:
            problems.append(("manifest", f"is {digest}", source.manifest))
    if problems:
        remedy = "Use the original, unchanged data set; to use one of your own, set data.root to its folder"
        where = f"{source.name} from {origin}"
        raise InputError([Fault("wrong data", f"{where}, {part}", problem, allowed, remedy)
                          for part, problem, allowed in problems])


def manifest(root: Path, keep: Sequence[str]) -> str:
    """sha256 over a line `PATH NUL SHA256` for each kept file, sorted by path; the same on every machine."""
    digest = hashlib.sha256()
    for path in kept_files(root, keep):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _unchanged(source: Source, previous: Path) -> bool:
    root, record = previous / source.folder, previous / RECORD
    if not record.is_file():
        return False
    try:
        check(source, root, str(previous))
        return bool(read_json(record)["sha256"] == manifest(root, source.keep))
    except (InputError, KeyError):
        return False


def _folder(source: Source, hand: Path | None) -> Path | None:
    """The data set's own folder under what is at hand."""
    if hand is None or not hand.is_dir():
        return None
    names = [source.name, source.folder, f"VOCdevkit/{source.folder}",
             f"{source.name}/{source.folder}", f"{source.name}/VOCdevkit/{source.folder}", "."]
    for name in names:
        if all((hand / name / part).is_dir() for part in source.keep):
            return hand / name
    return None


def _from_archives(source: Source, root: Path, archives: list[Path], downloads: Path) -> None:
    try:
        for archive in archives:
            unpack(archive, source.folder, source.keep, root)
        check(source, root, ", ".join(map(str, archives)))
    except InputError:
        # Without a digest only the content shows that a download went wrong: the next run tries again.
        for path, archive_of_source in zip(archives, source.archives, strict=True):
            if path.parent == downloads and not (archive_of_source.sha256 or archive_of_source.md5):
                os.replace(path, path.with_name(f"{path.name}.wrong"))
        raise


def _archives(source: Source, hand: Path | None, downloads: Path, network: dict[str, Any]) -> list[Path]:
    """Every archive, verified: at hand, else downloaded. Raises InputError that names all that are missing."""
    paths: list[Path] = []
    faults: list[Fault] = []
    for archive in source.archives:
        candidates = [downloads / archive.file]
        if hand is not None:
            candidates += [hand / archive.file, hand / source.name / archive.file]
            candidates += [hand] * (hand.name == archive.file)
        path = next((candidate for candidate in candidates if candidate.is_file()), None)
        if path is None:
            path = downloads / archive.file
            try:  # once only, without pauses, where one before it could not be downloaded
                download(archive.urls, path, archive.expected, **(network | {"attempts": 1} if faults else network))
            except Unavailable as error:
                faults.append(_missing(source, archive, str(error)))
        elif problem := mismatch(path, archive.expected):
            faults.append(Fault("wrong archive", str(path), problem, f"{archive.expected}",
                                "Download it again, or remove it to have it downloaded"))
        paths.append(path)
    if faults:
        raise InputError(faults)
    return paths


def _missing(source: Source, archive: Archive, problem: str) -> Fault:
    checks = ", ".join(f"{name} {value}" for name, value in archive.expected.items())
    return Fault(
        "no download", f"{source.name}: {archive.file}", f"could not be downloaded ({problem})",
        f"the archive{f' with {checks}' * bool(checks)}, or the unpacked folder {source.folder}",
        f"Get it on another machine, put it into any folder F and set the environment variable {AT_HAND}=F "
        f"(F/{archive.file}, or unpacked F/{source.folder})",
    )
