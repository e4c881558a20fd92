"""Takes the wanted files out of a tar or zip archive, or a folder, and nothing that would be written elsewhere."""

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from lib.stage.errors import Fault, InputError

Member = tuple[str, bool, IO[bytes] | None]


def unpack(archive: Path, folder: str, keep: Sequence[str], destination: Path) -> None:
    """Writes `.../folder/PART/name` of the archive to `destination`/PART/name for each PART in `keep`.

    folder : name of the data set's folder, at any depth;  keep : POSIX paths below it

    Hidden files are left out. Raises InputError for a file that is not a whole archive, and for one with a name that
    leads outside or with a kept member that is a link or a device; then nothing of it may be used.
    """
    try:
        with _members(archive) as members:
            for name, plain, content in members:
                path = PurePosixPath(name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or ":" in "".join(path.parts[:1]):
                    raise _fault("unsafe archive", f"{archive}: {name}", "leads outside the folder")
                inner = _wanted(path, folder, keep)
                if inner is None:
                    continue
                if not plain or content is None:
                    raise _fault("unsafe archive", f"{archive}: {name}", "is a link or a device")
                target = destination / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, 2**20)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise _fault("broken archive", str(archive), f"cannot be read to its end: {error}") from error


def copy(source: Path, keep: Sequence[str], destination: Path) -> None:
    """The same from the data set's own folder (links in it are followed: they are its owner's)."""
    for path in kept_files(source, keep):
        target = destination / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def kept_files(root: Path, keep: Sequence[str]) -> list[Path]:
    """The files of the kept parts, sorted by their POSIX path; hidden ones left out."""
    listed = [path for part in keep for path in (root / part).glob("*")]
    files = [path for path in listed if path.is_file() and path.name[0] != "."]
    return sorted(files, key=lambda path: path.relative_to(root).as_posix())


def _wanted(path: PurePosixPath, folder: str, keep: Sequence[str]) -> PurePosixPath | None:
    """Path below the data set's folder if the file is to be kept, else None."""
    if folder not in path.parts[:-1] or path.name.startswith("."):
        return None
    inner = PurePosixPath(*path.parts[path.parts.index(folder) + 1 :])
    return inner if inner.parent.as_posix() in keep else None


@contextmanager
def _members(archive: Path) -> Iterator[Iterator[Member]]:
    """Files of an archive as (name, is a plain file, its content), folders left out."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield _zip_members(packed)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as packed_tar:
            yield _tar_members(packed_tar)
    else:
        with archive.open("rb") as file:
            head = file.read(16)
        raise _fault("broken archive", str(archive), f"is neither tar nor zip: it starts with {head!r}")


def _zip_members(packed: zipfile.ZipFile) -> Iterator[Member]:
    for info in packed.infolist():
        if info.is_dir():
            continue
        kind = (info.external_attr >> 16) & 0o170000
        with packed.open(info) as content:
            yield info.filename, kind in (0, 0o100000), content


def _tar_members(packed: tarfile.TarFile) -> Iterator[Member]:
    for info in packed:
        if not info.isdir():
            yield info.name, info.isreg(), packed.extractfile(info) if info.isreg() else None


def _fault(kind: str, where: str, problem: str) -> InputError:
    allowed = "a whole tar or zip archive of plain files inside its own folders"
    return InputError([Fault(kind, where, problem, allowed, "Remove it and take the original archive")])
