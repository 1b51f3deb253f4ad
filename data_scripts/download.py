"""Downloads that resume, are verified, and leave nothing that passes for whole when they fail.

`fetch` writes to `file.part` and renames it when its hash is right; `unpack` unpacks into `folder.unpacking` and
renames that when the archive came to its end. Run the command again after any failure: it goes on from there.
(pooch downloads and verifies, too, but begins a broken download from its first byte.)
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tqdm import tqdm

CHUNK = 1 << 18
TIMEOUT = 60  # seconds without a byte
QUIET: dict[str, Any] = {
    "mininterval": 0.5 if sys.stderr.isatty() else 10,
    "delay": 1,
    "ascii": True,
}  # of tqdm's lines
T = TypeVar("T")


class DataError(RuntimeError):
    """What went wrong with a data set, and what to do; the command prints it without a traceback."""


class Gone(DataError):
    """An address that does not hold the file, or not for all, or holds another one."""


def progress(items: Iterable[T], task: str, total: int | None = None, unit: str = "files") -> Iterable[T]:
    """The items, while standard error tells how far they are: in place, or in a log every ten seconds."""
    return tqdm(items, task, total, unit=f" {unit}", **QUIET)


def fetch(
    url: str, path: Path, digest: str | None = None, tries: int = 5, pause: float = 2, shown: bool = True
) -> Path:
    """Downloads `url` to `path`, going on from `path.part` where an earlier try stopped.

    Args:
        url: an address (http, https), or the path of a file on this computer, which is copied.
        digest: "sha256:..." or "md5:..." of the whole file. Without one, a download goes on only where the
            server can tell that the file is still the same one (ETag); otherwise it begins again.
        tries: attempts before giving up, `pause` seconds apart, twice as long after each.
        shown: tell on standard error how far it is.

    Raises:
        Gone: the server refuses, there is no such file, or the hash is wrong.
        DataError: the connection fails `tries` times. In either case nothing stands under `path`.
    """
    local = Path(urllib.request.url2pathname(url.removeprefix("file://")))
    if local.is_file():
        url = local.resolve().as_uri()
    elif not url.startswith(("http://", "https://")):
        raise Gone(f"{url} is neither a file on this computer nor an address that begins with https:// or http://")
    path.parent.mkdir(parents=True, exist_ok=True)
    part, tag = path.with_name(path.name + ".part"), path.with_name(path.name + ".part.etag")
    for attempt in range(tries):
        try:
            _receive(url, part, tag, digest, shown)
            break
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 429):
                raise Gone(
                    f"{url}: the server answers {error.code} {error.reason}. The file has moved or is not for all: "
                    "open the address in a browser, and see --help for other sources"
                ) from error
            reason = f"the server answers {error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(error) or type(error).__name__
        if attempt + 1 == tries:
            got = part.stat().st_size if part.exists() else 0
            raise DataError(
                f"{url}: {reason}, {tries} times. {got:,} bytes are kept: run the same command again to go on"
            )
        wait = pause * 2**attempt
        print(f"{url}: {reason}; trying again in {wait:g} s", file=sys.stderr, flush=True)
        time.sleep(wait)
    if digest and (found := file_digest(part, digest.partition(":")[0])) != digest:
        part.unlink()
        tag.unlink(missing_ok=True)
        raise Gone(
            f"{url}: expected {digest}, got {found}. The download was thrown away: run the same command again; if it "
            "happens twice, the file at that address is another one, do not use it"
        )
    os.replace(part, path)
    tag.unlink(missing_ok=True)
    return path


def _receive(url: str, part: Path, tag: Path, digest: str | None, shown: bool) -> None:
    """One attempt; returns when the server's last byte is in `part`, raises OSError when it broke off."""
    have = part.stat().st_size if part.exists() else 0
    etag = tag.read_text() if tag.exists() else ""
    request = urllib.request.Request(url, headers={"User-Agent": "cascade-core", "Accept-Encoding": "identity"})
    if have and (etag or digest):
        request.add_header("Range", f"bytes={have}-")
        if etag:
            request.add_header("If-Range", etag)
    try:
        reply = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # the last try had it all and did not come to the renaming
        part.unlink()
        raise ConnectionError("what was kept did not fit the file") from error
    with reply:
        ranged = reply.status == 206
        if ranged and not reply.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise ConnectionError("the server sent another part than the one asked for")
        have = have if ranged else 0
        strong = reply.headers.get("ETag", "")
        tag.write_text("" if strong.startswith("W/") else strong)
        length = reply.headers.get("Content-Length")
        total = have + int(length) if length else None
        bar = tqdm(desc=part.stem, total=total, initial=have, unit="B", unit_scale=True, disable=not shown, **QUIET)
        with part.open("ab" if ranged else "wb") as file, bar:
            while chunk := reply.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            got = file.tell()
        if total is not None and got != total:
            raise ConnectionError(f"the connection broke off after {got:,} of {total:,} bytes")


def file_digest(path: Path, kind: str = "sha256") -> str:
    """ "sha256:..." or "md5:..." of a file."""
    with path.open("rb") as file:
        return f"{kind}:{hashlib.file_digest(file, kind).hexdigest()}"


def unpack(archive: Path, folder: Path, keep: Callable[[str], bool] = lambda name: True) -> Path:
    """Unpacks a tar (of any compression) or zip archive into the new folder `folder`.

    Args:
        keep: says by its name whether a member is wanted.

    Raises:
        DataError: the archive is truncated or none, or a member would land outside of `folder`. There is no
            `folder` then.
    """
    if folder.exists():
        raise DataError(f"{folder} is there already: delete it to unpack {archive.name} again")
    rough = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(rough, ignore_errors=True)
    try:
        rough.mkdir(parents=True)
        if zipfile.is_zipfile(archive):
            _unzip(archive, rough, keep)
        else:
            _untar(archive, rough, keep)
    except UnsafePath as error:
        shutil.rmtree(rough, ignore_errors=True)
        raise DataError(f"{archive}: {error}. The archive is not safe to unpack: delete it") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        shutil.rmtree(rough, ignore_errors=True)
        raise DataError(
            f"{archive} cannot be unpacked ({error or 'it ends early'}): see that there is room on the disk, "
            "delete the archive and run the same command again"
        ) from error
    os.replace(rough, folder)
    return folder


class UnsafePath(ValueError):
    """A member of an archive that would land outside of its folder, or is neither a file nor a folder."""


def _check_path(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name:
        raise UnsafePath(f"{name!r} would land outside of the folder")


def _untar(archive: Path, folder: Path, keep: Callable[[str], bool]) -> None:
    # Not tarfile's own filters: they came with Python 3.11.4, and a data set needs no links or devices at all.
    with tarfile.open(archive) as tar:
        for member in tar:
            _check_path(member.name)
            if not (member.isfile() or member.isdir()):
                raise UnsafePath(f"{member.name!r} is neither a file nor a folder")
            if member.isfile() and keep(member.name):
                path = folder / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                source = tar.extractfile(member)
                assert source is not None  # it is a file
                with source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
                if path.stat().st_size != member.size:
                    raise EOFError(f"{member.name} is truncated")


def _unzip(archive: Path, folder: Path, keep: Callable[[str], bool]) -> None:
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            _check_path(name)
        file.extractall(folder, [name for name in file.namelist() if keep(name)])  # checks each member's CRC
