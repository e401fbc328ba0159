"""Unpacking: each format, twice, killed, and all that an archive may try."""

import io
import stat
import zipfile

import pytest
import rarfile
from make_archives import make_rar, make_tar, make_zip
from make_jhmdb import refused

from lib.fetch import archives
from lib.fetch.archives import unpack

MEMBERS = {"top/a/1.txt": b"one", "top/a/2.txt": b"", "top/b.bin": bytes(range(256)) * 20, "other/c.txt": b"left"}
MAKERS = {
    "zip": make_zip, "tar.gz": make_tar, "tgz": make_tar, "tar": lambda members: make_tar(members, "w"),
    "tar.xz": lambda members: make_tar(members, "w:xz"), "rar": make_rar,
}  # fmt: skip


def inside_top(name: str) -> str | None:
    return name.removeprefix("top/") if name.startswith("top/") else None


def tree(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


WHOLE = {name.removeprefix("top/"): content for name, content in MEMBERS.items() if name.startswith("top/")}


@pytest.mark.parametrize("kind", MAKERS)
def test_files_come_where_they_belong_and_stay_when_they_are_there(kind, tmp_path):
    path, root, staging = tmp_path / f"x.{kind}", tmp_path / "root", tmp_path / "staging"
    path.write_bytes(MAKERS[kind](MEMBERS))
    assert unpack(path, root, inside_top, staging) == (3, 0, 1)
    assert tree(root) == WHOLE and not staging.exists()
    (root / "a" / "1.txt").write_bytes(b"cut")  # as many bytes: not looked at again
    (root / "b.bin").write_bytes(b"less")
    assert unpack(path, root, inside_top, staging) == (1, 2, 1)
    assert tree(root) == WHOLE | {"a/1.txt": b"cut"}


def test_parts_are_read_as_one(tmp_path):
    whole = make_tar(MEMBERS)
    for number in range(3):
        (tmp_path / f"x-{number:02d}").write_bytes(whole[number * 100 : (number + 1) * 100 if number < 2 else None])
    unpack(tmp_path / "x-00", tmp_path / "root", inside_top, tmp_path / "staging")
    assert tree(tmp_path / "root") == WHOLE


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/evil", "top\\..\\..\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz", "rar"])
def test_names_that_lead_out_are_refused_before_anything_is_written(name, kind, tmp_path):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(MAKERS[kind]({**MEMBERS, name: b"evil"}))
    refused(lambda: unpack(path, tmp_path / "root", inside_top, tmp_path / "staging"), "leads out", "do not trust")
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_links_and_devices_are_refused(tmp_path):
    linked = io.BytesIO(make_zip(MEMBERS))
    with zipfile.ZipFile(linked, "a") as archive:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    contents = {
        "x.zip": linked.getvalue(), "x.tar.gz": make_tar(MEMBERS, links={"top/a": "/etc"}),
        "x.rar": make_rar({"top/link": b"/etc"}, stat.S_IFLNK | 0o777),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        refused(lambda name=name: unpack(tmp_path / name, tmp_path / "root", inside_top, tmp_path / "s"), "a link or")
        assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL", 10**5)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(MAKERS[kind]({"top/a": b"fine", "top/zeros": bytes(10**7)}))
    refused(lambda: unpack(path, tmp_path / "root", inside_top, tmp_path / "s"), "60 times its own")
    assert not (tmp_path / "root").exists()


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    content = make_zip({"top/a": bytes(1000)})
    path = tmp_path / "x.zip"
    path.write_bytes(content.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    refused(lambda: unpack(path, tmp_path / "root", inside_top, tmp_path / "s"), "x.zip")
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["x.zip"] and not tree(tmp_path / "root")


@pytest.mark.parametrize("kind", MAKERS)
def test_a_cut_or_garbled_archive_is_refused_in_one_line(kind, tmp_path):
    whole, path = MAKERS[kind](MEMBERS), tmp_path / f"x.{kind}"
    for content in (whole[: len(whole) // 2], b"no archive", b""):
        path.write_bytes(content)
        refused(lambda: unpack(path, tmp_path / "root", inside_top, tmp_path / "s"), path.name, "fetch it again")
        assert not (tmp_path / "s").exists()


def test_a_compressed_rar_without_a_program_for_it_says_what_to_install(tmp_path, monkeypatch):
    def cannot(*_, **__):
        raise rarfile.RarCannotExec("no unrar")

    path = tmp_path / "x.rar"
    path.write_bytes(make_rar(MEMBERS))
    monkeypatch.setattr(rarfile.RarFile, "open", cannot)
    refused(lambda: unpack(path, tmp_path / "root", inside_top, tmp_path / "s"), "unrar, unar, 7z or bsdtar")
