"""One file: whatever the network does on the way, it is whole and right, or not there."""

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
from fetch_server import serve
from make_jhmdb import refused

from lib.fetch import download as module
from lib.fetch.download import Source, checksum, download, open_session

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
NAME = "host.org/some/a.zip"


@pytest.fixture
def server():
    with serve({NAME: CONTENT}) as running:
        yield running


def source_of(server, **known) -> Source:
    return Source(f"{server.url}/{NAME}", **known)


def fetched(server, folder: Path, **known) -> Path:
    return download(source_of(server, **known), folder, open_session(pause=0.001))


FAULTS = {
    "none": [], "cut": [("cut", 1000)], "cut four times": [("cut", 90_000)] * 4, "garbled": [("garbled",)],
    "busy twice": [("status", 503), ("status", 503)], "busy, cut, busy": [("status", 503), ("cut", 7), ("status", 500)],
    "cut, then garbled": [("cut", 100), ("garbled",)],
}  # fmt: skip


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_whatever_happens_the_file_is_right(server, tmp_path, faults):
    server.faults[f"/{NAME}"] = list(faults)
    path = fetched(server, tmp_path, size=len(CONTENT), md5=MD5)
    assert path == tmp_path / "a.zip" and path.read_bytes() == CONTENT
    assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == ["a.zip"]
    asked = len(server.requests)
    assert fetched(server, tmp_path, size=len(CONTENT), md5=MD5) == path and len(server.requests) == asked
    assert checksum(path) == hashlib.sha256(CONTENT).hexdigest()


def test_a_broken_transfer_goes_on_where_it_broke(server, tmp_path):
    server.faults[f"/{NAME}"] = [("cut", 100_000)] * 2
    fetched(server, tmp_path)
    assert [start for _, start in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_it_goes_on_in_another_process_later(server, tmp_path, monkeypatch):
    server.faults[f"/{NAME}"] = [("cut", 100_000), *[("cut", 0)] * 20]
    refused(lambda: fetched(server, tmp_path), "keeps breaking", "stays, start again")
    assert (tmp_path / "a.zip.part").stat().st_size == 100_000 and not (tmp_path / "a.zip").exists()
    server.faults.clear()
    assert fetched(server, tmp_path, md5=MD5).read_bytes() == CONTENT
    assert server.requests[-1][1] == "bytes=100000-"


def test_a_server_without_ranges_starts_over(tmp_path):
    with serve({NAME: CONTENT}, ranges=False) as server:
        server.faults[f"/{NAME}"] = [("cut", 100_000)]
        assert fetched(server, tmp_path, md5=MD5).read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_gone_on_with(server, tmp_path):
    server.faults[f"/{NAME}"] = [("cut", 100_000), *[("cut", 0)] * 20]
    refused(lambda: fetched(server, tmp_path), "keeps breaking")
    server.faults.clear()
    newer = CONTENT[::-1]
    server.files[f"/{NAME}"] = newer
    assert fetched(server, tmp_path).read_bytes() == newer


def test_a_part_of_no_known_origin_or_already_whole_is_told(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(b"who knows")
    assert fetched(server, tmp_path).read_bytes() == CONTENT
    (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")  # killed after the last byte, before the file had its name
    (tmp_path / "a.zip.part.json").write_text(
        f'{{"url": "{server.url}/{NAME}", "size": {len(CONTENT)}, "version": null}}'
    )
    assert fetched(server, tmp_path, md5=MD5).read_bytes() == CONTENT and server.requests[-1][1] == "bytes=300000-"


def test_what_is_wrong_twice_is_refused_and_deleted(server, tmp_path):
    server.faults[f"/{NAME}"] = [("garbled",)] * 2
    refused(lambda: fetched(server, tmp_path, md5=MD5), "md5", MD5, "changed")
    refused(lambda: fetched(server, tmp_path, size=5), "300000 bytes, not 5")
    assert not [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]


def test_what_a_server_refuses_is_one_line(server, tmp_path, capsys):
    session = open_session(pause=0.001)
    absent = Source(f"{server.url}/host.org/gone.zip")
    refused(lambda: download(absent, tmp_path, session), "gone.zip", "404")
    server.faults[f"/{NAME}"] = [("status", 503)] * 10
    refused(lambda: fetched(server, tmp_path), "503")
    refused(lambda: download(Source("http://127.0.0.1:9/x.zip"), tmp_path, session), "keeps breaking")
    assert capsys.readouterr().err == "http://127.0.0.1:9/x.zip: no answer (ConnectionError), trying again\n"
    refused(lambda: download(Source("https:///x.zip"), tmp_path, session), "x.zip")
    assert not list(tmp_path.glob("*.zip"))


def test_a_full_disk_keeps_what_came(server, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file, self.room = file, 150_000

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, chunk):
            self.room -= len(chunk)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.file.write(chunk)

    plain = Path.open
    monkeypatch.setattr(module, "CHUNK", 50_000)
    with monkeypatch.context() as full:
        full.setattr(
            Path,
            "open",
            lambda path, mode="r", **more: (
                Full(plain(path, mode, **more)) if mode in ("ab", "wb") else plain(path, mode, **more)
            ),
        )
        refused(lambda: fetched(server, tmp_path), "a.zip.part", "No space left", "stays")
    came = (tmp_path / "a.zip.part").stat().st_size
    assert 100_000 <= came <= 150_000
    assert fetched(server, tmp_path, md5=MD5).read_bytes() == CONTENT and server.requests[-1][1] == f"bytes={came}-"
