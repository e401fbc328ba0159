"""One file from the network, whole and verified or not at all; a broken transfer goes on where it broke.

Beside the file `NAME` lies `NAME.part` while it is incomplete, and `NAME.part.json` says what it is a part of. pooch
verifies and caches, but does not resume; requests does the rest (retries, redirects, proxies, certificates).
"""

import hashlib
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from lib.errors import UserError
from lib.runtime import progress, write_json

CHUNK = 2**20
TIMEOUT = 30  # seconds without a byte
BREAKS = 5  # times in a row that a transfer may break without having brought a byte
BUSY = (429, 500, 502, 503, 504)  # statuses after which the same request is made again, a little later


@dataclass(frozen=True)
class Source:
    """A file to fetch. size: bytes, md5: its published checksum; None where none is known. name: on the disk."""

    url: str
    size: int | None = None
    md5: str | None = None
    name: str = ""

    @property
    def file_name(self) -> str:
        """What it is called on the disk."""
        return self.name or unquote(urlsplit(self.url).path.rpartition("/")[2])


class Mismatch(UserError):
    """What came is not what is known of the file."""


def open_session(pause: float = 0.5) -> requests.Session:
    """Asks a busy server again, up to five times, after `pause` seconds times 1, 2, 4, ... or as long as it says."""
    told = {"backoff_factor": pause, "status_forcelist": BUSY, "raise_on_status": False}
    retry = Retry(total=BREAKS, connect=0, read=0, **told)  # broken connections are `_fetch`'s, which tells of them
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    session.headers["Accept-Encoding"] = "identity"  # bytes as they lie there: ranges and checksums are of those
    return session


def download(source: Source, folder: Path, session: requests.Session) -> Path:
    """The source's file in the folder; what is there whole is not fetched again.

    Any number of processes may ask for it: one fetches. UserError when the server does not give it, or gives something
    else than is known of it twice; then nothing is left, else what came stays for the next time.
    """
    path = folder / source.file_name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.is_file():
            try:
                _fetch(source, path, session)
            except Mismatch:  # a part of an older version, or damaged on the way: once more, from the start
                _fetch(source, path, session)
    return path


def _fetch(source: Source, path: Path, session: requests.Session) -> None:
    part = path.with_name(f"{path.name}.part")
    breaks, pause = 0, session.get_adapter(source.url).max_retries.backoff_factor
    while breaks <= BREAKS:
        before = part.stat().st_size if part.is_file() else 0
        try:
            _transfer(source, part, session)
            break
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            reason = type(error).__name__
            breaks = 0 if part.is_file() and part.stat().st_size > before else breaks + 1
            if breaks == 1:
                print(f"{source.url}: no answer ({reason}), trying again", file=sys.stderr, flush=True)
            time.sleep(pause * 2**breaks if 0 < breaks <= BREAKS else 0)
        except requests.RequestException as error:
            raise UserError(f"{source.url}: {error}") from None
        except OSError as error:  # of the disk
            raise UserError(f"{part}: {error.strerror or error}; what came so far stays, start again") from None
    else:
        raise UserError(f"{source.url}: the connection keeps breaking ({reason}); what came so far stays, start again")
    _verify(source, part)
    part.replace(path)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)


def _transfer(source: Source, part: Path, session: requests.Session) -> None:
    """Bring what is lacking of the part."""
    note, have = part.with_name(f"{part.name}.json"), part.stat().st_size if part.is_file() else 0
    known = json.loads(note.read_text()) if have and note.is_file() else {}
    if known.get("url") != source.url:
        have = 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    if have and known.get("version"):
        headers["If-Range"] = known["version"]
    with session.get(source.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416 and have == known.get("size"):
            return  # all of it had come
        if answer.status_code not in (200, 206):
            raise UserError(f"{source.url}: the server answers {answer.status_code} {answer.reason}")
        goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if goes_on else 0
        length, tag = answer.headers.get("Content-Length"), answer.headers.get("ETag", "W/")
        version = answer.headers.get("Last-Modified") if tag.startswith("W/") else tag  # which a range may hang on
        size = have + int(length) if length else None
        write_json(note, {"url": source.url, "size": size, "version": version})
        with part.open("ab" if have else "wb") as file, progress(None, part.stem, size, have) as bar:
            while chunk := answer.raw.read1(CHUNK):  # requests' own loses what came of a chunk when it breaks off
                file.write(chunk)
                bar.update(len(chunk))


def _verify(source: Source, part: Path) -> None:
    """Mismatch, and the part deleted, if it is not what is known of the source."""
    size = part.stat().st_size
    if source.size is not None and size != source.size:
        wrong = f"{size} bytes, not {source.size}"
    elif source.md5 is not None and (found := checksum(part, "md5")) != source.md5:
        wrong = f"md5 {found}, not {source.md5}"
    else:
        return
    part.unlink()
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
    raise Mismatch(f"{source.url}: what came has {wrong}: the file there was changed, or is not what it was")


def checksum(path: Path, name: str = "sha256") -> str:
    """The file's checksum, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()
