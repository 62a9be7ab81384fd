"""Entries of hostile archives, and the archives that are made of them; see `tests.security.archives`."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field

FILE, HARD, LINK, CHR, BLK, DIR, FIFO = (getattr(tarfile, f"{n}TYPE") for n in (
    "REG", "LNK", "SYM", "CHR", "BLK", "DIR", "FIFO"))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry; *data* is the content, or a link's target."""

    name: str
    kind: bytes = FILE
    data: str = "evil"
    mode: int = 0o644
    pax: Mapping[str, str] = field(default_factory=dict[str, str])
    device: tuple[int, int] = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One archive.

    Attributes:
        members: entries, or an archive as it is.
        shows: of the image afterwards, by path: content, ``-> target``, ``dir``, ``fifo``, a
            device's numbers, or "" where nothing may be; or how the error goes on.
        modes: of the image afterwards.
        dest: where it is added.
        then: a second archive for the same destination.
    """

    name: str
    members: tuple[Member, ...] | bytes
    shows: Mapping[str, str] | str
    modes: Mapping[str, int] = field(default_factory=dict[str, int])
    dest: str = "/d"
    then: tuple[Member, ...] = ()
    chown: str = ""

    @property
    def refused(self) -> str:
        """How the error goes on; nothing where the archive can be unpacked."""
        return self.shows if isinstance(self.shows, str) else ""


def f(name: str, data: str = "evil", mode: int = 0o644, **pax: str) -> Member:
    return Member(name=name, data=data, mode=mode, pax=pax)


def link(name: str, target: str, **pax: str) -> Member:
    return Member(name=name, kind=LINK, data=target, pax=pax)


def hard(name: str, target: str, **pax: str) -> Member:
    return Member(name=name, kind=HARD, data=target, pax=pax)


def folder(name: str, mode: int = 0o755, **pax: str) -> Member:
    return Member(name=name, kind=DIR, mode=mode, pax=pax)


def node(name: str, kind: bytes = CHR, device: tuple[int, int] = (1, 3)) -> Member:
    return Member(name=name, kind=kind, device=device)


BASE = (
    folder("etc"),
    f("etc/passwd", "base"),
    folder("usr/bin"),
    f("usr/bin/tool", "base", 0o755),
    link("bin", "usr/bin"),
    folder("elsewhere"),
    folder("elsewhere/sub"),
    f("elsewhere/keep", "base", 0o600),
    link("link", "/elsewhere"),
    folder("was"),
    link("was/out", "/elsewhere"),
    link("was/up", ".."),
    link("was/up-and-out", "../elsewhere"),
    link("was/file", "/etc/passwd"),
    link("was/loop", "loop"),
    folder("was/dir"),
    f("was/dir/old", "base"),
)


def pack(members: tuple[Member, ...] | bytes) -> bytes:
    if isinstance(members, bytes):
        return members
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.mode, info.mtime = member.kind, member.mode, 1_700_000_000
            info.pax_headers = {k.replace("__", "."): v for k, v in member.pax.items()}
            info.devmajor, info.devminor = member.device
            data = b""
            if member.kind in (LINK, HARD):
                info.linkname = member.data
            elif member.kind == FILE:
                data = member.data.encode("utf-8", "surrogateescape")
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def raw(*changes: tuple[int, bytes], name: bytes = b"x", kind: bytes = FILE) -> bytes:
    """Return an archive of one header with bytes replaced, its checksum right."""
    info = tarfile.TarInfo(name.decode())
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    for start, data in changes:
        block[start : start + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def gnu(*members: Member) -> bytes:
    """Return an archive with GNU's long names."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member.name)
            info.type, info.linkname = member.kind, member.data
            archive.addfile(info)
    return out.getvalue()
