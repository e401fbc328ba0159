"""Archives of given members, in every format; rar without compression, by hand, for nothing free writes it."""

import io
import struct
import tarfile
import zipfile
import zlib


def make_zip(members: dict[str, bytes]) -> bytes:
    """A zip, compressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def make_tar(members: dict[str, bytes], mode: str = "w:gz", links: dict[str, str] | None = None) -> bytes:
    """A tar, and links in it: name -> what it points to."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return file.getvalue()


def make_rar(members: dict[str, bytes], mode: int = 0o100644) -> bytes:
    """A rar of version 4, stored; `mode`: the members' kind and permissions as Unix has them."""

    def block(kind: int, flags: int, rest: bytes, data: bytes = b"") -> bytes:
        header = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header + data

    parts = [b"Rar!\x1a\x07\x00", block(0x73, 0, bytes(6))]
    for name, content in members.items():
        sizes = struct.pack("<IIBII", len(content), len(content), 3, zlib.crc32(content), 0x5A21_0000)
        rest = sizes + struct.pack("<BBHI", 20, 0x30, len(name), mode) + name.encode()
        parts.append(block(0x74, 0x8000, rest, content))
    return b"".join([*parts, block(0x7B, 0x4000, b"")])
