"""Archives that mean harm to what lies beside them, as a table, and what unpacks them.

It imports nothing but the package and the standard library, because it also runs as a plain user
in a copy of both, by its text. Each attempt is the source of an ADD; whatever comes of it, nothing
outside of the destination may change, in the image or on the host.
"""

from __future__ import annotations

import io
import json
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE, HARD, LINK, CHR, BLK, DIR, FIFO = (getattr(tarfile, f"{n}TYPE") for n in (
    "REG", "LNK", "SYM", "CHR", "BLK", "DIR", "FIFO"))  # fmt: skip
_LIES_OUTSIDE = "lies outside of the destination"
_NOT_THERE = "which is not there"


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


_SLASH = "/" * 3
_LONG = "x/" * 80

ATTEMPTS = (
    # --- links that the archive brings ------------------------------------------------------------
    Attempt(
        name="through a link to the parent",
        members=(link("symdir1", ".."), f("symdir1/etc/myfile")),
        shows={"/d/etc/myfile": "evil", "/d/symdir1": "-> ..", "/etc/myfile": ""},
    ),
    Attempt(
        name="through an absolute link",
        members=(link("l", "/etc"), f("l/passwd")),
        shows={"/d/etc/passwd": "evil", "/d/l": "-> /etc"},
    ),
    Attempt(
        name="through a link far up",
        members=(link("l", "../../../../../../../../etc"), f("l/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="through a chain of links",
        members=(link("a", "b"), link("b", "c/../c"), link("c", "/etc"), f("a/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="through a link below a link",
        members=(link("a", "/"), link("b", "a/.."), f("b/etc/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="through a link made through a link",
        members=(link("a", ".."), link("a/b", "../etc"), f("b/passwd")),
        shows={"/d/etc/passwd": "evil", "/d/b": "-> ../etc"},
    ),
    Attempt(
        name="through a link to the root",
        members=(link("l", "/"), f("l/etc/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="through a link of slashes",
        members=(link("l", _SLASH), f("l/etc/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="through a link to itself as a directory",
        members=(link("l", "."), f("l/f")),
        shows={"/d/f": "evil"},
    ),
    Attempt(
        name="through a link to the destination by its name in the image",
        members=(link("l", "/d"), f("l/f")),
        shows={"/d/d/f": "evil", "/d/f": ""},
    ),
    Attempt(
        name="through the root of a process",
        members=(link("p", "/proc/self/root"), f("p/etc/passwd")),
        shows={"/d/proc/self/root/etc/passwd": "evil"},
    ),
    Attempt(
        name="through the directory of a process",
        members=(link("p", "/proc/1/cwd"), f("p/etc/passwd")),
        shows={"/d/proc/1/cwd/etc/passwd": "evil"},
    ),
    Attempt(
        name="through an open file of a process",
        members=(link("p", "/proc/self/fd"), f("p/3")),
        shows={"/d/proc/self/fd/3": "evil"},
    ),
    Attempt(
        name="through /dev/fd",
        members=(link("p", "/dev/fd/3"), f("p/etc/passwd")),
        shows={"/d/dev/fd/3/etc/passwd": "evil"},
    ),
    Attempt(
        name="onto a link to a file",
        members=(link("out", "/etc/passwd"), f("out")),
        shows={"/d/out": "evil"},
    ),
    Attempt(
        name="onto a link to a file, relative",
        members=(link("out", "../etc/passwd"), f("out")),
        shows={"/d/out": "evil"},
    ),
    Attempt(
        name="onto a link that leads nowhere",
        members=(link("out", "../new"), f("out")),
        shows={"/d/out": "evil", "/new": "", "/d/new": ""},
    ),
    Attempt(
        name="a link that nothing goes through",
        members=(link("out", "../../../../etc/passwd"),),
        shows={"/d/out": "-> ../../../../etc/passwd"},
    ),
    Attempt(
        name="directory over a link",
        members=(link("l", "/etc"), folder("l"), f("l/passwd")),
        shows={"/d/l": "dir", "/d/l/passwd": "evil", "/d/etc": ""},
    ),
    Attempt(
        name="link over a directory",
        members=(folder("x"), f("x/f"), link("x", "/etc"), f("x/passwd")),
        shows={"/d/x": "-> /etc", "/d/etc/passwd": "evil", "/d/etc/f": ""},
    ),
    Attempt(
        name="link over a directory that was just written to",
        members=(folder("x"), f("x/a"), link("x", ".."), f("x/b")),
        shows={"/d/x": "-> ..", "/d/b": "evil", "/b": ""},
    ),
    Attempt(
        name="link over a directory above the one that was just written to",
        members=(f("x/y/z/a"), link("x", "/"), f("x/y/z/b")),
        shows={"/d/x": "-> /", "/d/y/z/b": "evil", "/d/y/z/a": ""},
    ),
    Attempt(
        name="another link over a link that was just gone through",
        members=(link("x", "one"), f("x/a"), link("x", "../etc"), f("x/passwd")),
        shows={"/d/one/a": "evil", "/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="target of a link turned into a link",
        members=(folder("t"), link("x", "t"), f("x/a"), link("t", "/etc"), f("x/passwd")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="directory over a link to a directory with a directory below",
        members=(link("l", "/elsewhere"), folder("l/sub", 0o777)),
        shows={"/d/elsewhere/sub": "dir"},
        modes={"/elsewhere/sub": 0o755, "/d/elsewhere/sub": 0o777},
    ),
    Attempt(
        name="setting bits through a link",
        members=(link("l", "/elsewhere"), f("l/keep", mode=0o4777)),
        shows={"/d/elsewhere/keep": "evil"},
        modes={"/elsewhere/keep": 0o600, "/d/elsewhere/keep": 0o4777},
    ),
    Attempt(
        name="owner of what a link points to",
        members=(link("l", "/etc/passwd"), link("m", "../etc")),
        shows={"/d/l": "-> /etc/passwd"},
        chown="7:7",
    ),
    Attempt(
        name="device through a link",
        members=(link("l", "/etc"), node("l/p", FIFO)),
        shows={"/d/etc/p": "fifo"},
    ),
    Attempt(
        name="link through a link",
        members=(link("l", "/etc"), link("l/passwd", "/elsewhere/keep")),
        shows={"/d/etc/passwd": "-> /elsewhere/keep"},
    ),
    Attempt(
        name="removing a directory of the image through a link",
        members=(link("l", "/elsewhere"), f("l/sub")),
        shows={"/d/elsewhere/sub": "evil", "/elsewhere/sub": "dir"},
    ),
    Attempt(
        name="loop of two links",
        members=(link("a", "b"), link("b", "a"), f("a/f")),
        shows="too many levels of symbolic links",
    ),
    Attempt(name="link to itself", members=(link("a", "a"), f("a/f")), shows="too many levels of"),
    Attempt(
        name="links that double",
        members=(
            link("l0", "."),
            *(link(f"l{n + 1}", f"l{n}/l{n}") for n in range(30)),
            f("l30/f"),
        ),
        shows="too many levels of symbolic links",
    ),
    Attempt(
        name="link that is a path without end",
        members=(link("l", "x/" * 3000), f("l/f")),
        shows="cannot unpack",
    ),
    Attempt(name="link without a target", members=(link("l", ""),), shows="cannot unpack"),
    # --- links that were there --------------------------------------------------------------------
    Attempt(
        name="through a link of the image below the destination",
        members=(f("out/keep"),),
        dest="/was",
        shows={"/was/elsewhere/keep": "evil", "/was/out": "-> /elsewhere"},
    ),
    Attempt(
        name="through a relative link of the image below the destination",
        members=(f("up-and-out/keep"),),
        dest="/was",
        shows={"/was/elsewhere/keep": "evil"},
    ),
    Attempt(
        name="through a link of the image to the parent",
        members=(f("up/etc/passwd"),),
        dest="/was",
        shows={"/was/etc/passwd": "evil"},
    ),
    Attempt(
        name="onto a link of the image",
        members=(f("file"),),
        dest="/was",
        shows={"/was/file": "evil"},
    ),
    Attempt(
        name="directory over a link of the image",
        members=(folder("out"), f("out/keep")),
        dest="/was",
        shows={"/was/out": "dir", "/was/out/keep": "evil"},
    ),
    Attempt(
        name="link over a directory of the image",
        members=(link("dir", "/etc"), f("dir/passwd")),
        dest="/was",
        shows={"/was/dir": "-> /etc", "/was/etc/passwd": "evil", "/was/dir/old": ""},
    ),
    Attempt(
        name="file over a directory of the image",
        members=(f("dir"),),
        dest="/was",
        shows={"/was/dir": "evil", "/was/dir/old": ""},
    ),
    Attempt(
        name="hard link through a link of the image",
        members=(hard("h", "out/keep"),),
        dest="/was",
        shows=_NOT_THERE,
    ),
    Attempt(
        name="hard link to a link of the image",
        members=(hard("h", "file"), f("h")),
        dest="/was",
        shows={"/was/h": "evil", "/was/file": "-> /etc/passwd"},
    ),
    Attempt(
        name="through a loop of the image",
        members=(f("loop/f"),),
        dest="/was",
        shows="too many levels of symbolic links",
    ),
    Attempt(
        name="through a link of the image, with the image's root as destination",
        members=(f("bin/tool"),),
        dest="/",
        shows={"/usr/bin/tool": "evil", "/bin": "-> usr/bin"},
    ),
    Attempt(
        name="destination is a link",
        members=(link("l", ".."), f("l/new")),
        dest="/link",
        shows={"/elsewhere/new": "evil", "/new": "", "/link": "-> /elsewhere"},
    ),
    Attempt(
        name="destination is a link, and so is what is written",
        members=(link("keep", "/etc/passwd"), f("keep")),
        dest="/link/",
        shows={"/elsewhere/keep": "evil"},
    ),
    Attempt(
        name="destination below a link",
        members=(link("l", "../.."), f("l/new")),
        dest="/link/sub",
        shows={"/elsewhere/sub/new": "evil", "/elsewhere/new": "", "/new": ""},
    ),
    Attempt(
        name="destination through a link to the parent",
        members=(link("l", "/"), f("l/etc/passwd")),
        dest="/was/up/was/dir",
        shows={"/was/dir/etc/passwd": "evil"},
    ),
    Attempt(
        name="second archive goes through a link of the first",
        members=(link("l", "/etc"),),
        then=(f("l/passwd"),),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="second archive turns a directory of the first into a link",
        members=(f("x/a"),),
        then=(link("x", "../etc"), f("x/passwd")),
        shows={"/d/etc/passwd": "evil", "/d/x": "-> ../etc"},
    ),
    # --- hard links -------------------------------------------------------------------------------
    Attempt(
        name="hard link to a file of the image, absolute",
        members=(hard("h", "/etc/passwd"), f("h")),
        shows=_NOT_THERE,
    ),
    Attempt(
        name="hard link to a file of the image, relative",
        members=(hard("h", "../etc/passwd"),),
        shows=_LIES_OUTSIDE,
    ),
    Attempt(
        name="hard link to a file of the image, absolute and up",
        members=(hard("h", "/../etc/passwd"),),
        shows=_LIES_OUTSIDE,
    ),
    Attempt(
        name="hard link to a file of the image, through a directory",
        members=(folder("x"), hard("h", "x/../../etc/passwd")),
        shows=_LIES_OUTSIDE,
    ),
    Attempt(
        name="hard link through a link",
        members=(link("l", "/etc"), hard("h", "l/passwd"), f("h")),
        shows=_NOT_THERE,
    ),
    Attempt(
        name="hard link through the root of a process",
        members=(link("p", "/proc/self/root"), hard("h", "p/etc/passwd")),
        shows=_NOT_THERE,
    ),
    Attempt(
        name="hard link to a link to a file of the image",
        members=(link("x", "/etc/passwd"), hard("h", "x"), f("h")),
        shows={"/d/h": "evil", "/d/x": "-> /etc/passwd"},
    ),
    Attempt(
        name="hard link to a link, with a mode",
        members=(link("x", "/elsewhere/keep"), Member(name="h", kind=HARD, data="x", mode=0o4777)),
        shows={"/d/h": "-> /elsewhere/keep"},
        modes={"/elsewhere/keep": 0o600},
    ),
    Attempt(
        name="hard link made through a link",
        members=(f("mine"), link("l", "/etc"), folder("etc"), hard("l/passwd", "mine")),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="hard link to a directory",
        members=(folder("x"), hard("h", "x")),
        shows="which is no file",
    ),
    Attempt(name="hard link to the destination", members=(hard("h", "/"),), shows="no file"),
    Attempt(name="hard link to nothing", members=(hard("h", ""),), shows="which is no file"),
    Attempt(name="hard link to itself", members=(hard("h", "h"),), shows="which is no file"),
    Attempt(
        name="hard link to itself, which is there",
        members=(f("h", "mine"), hard("h", "h")),
        shows={"/d/h": "mine"},
    ),
    Attempt(
        name="hard link to the link that it replaces",
        members=(link("h", "/etc/passwd"), hard("h", "h"), f("h")),
        shows={"/d/h": "evil"},
    ),
    Attempt(
        name="hard link below a file",
        members=(f("x"), hard("h", "x/y")),
        shows=_NOT_THERE,
    ),
    Attempt(
        name="hard link through a loop",
        members=(link("a", "a"), hard("h", "a/b")),
        shows="too many levels of symbolic links",
    ),
    Attempt(
        name="hard link to an absolute name of the archive's own",
        members=(f("a/f", "mine"), hard("h", "/a/f")),
        shows={"/d/h": "mine"},
    ),
    # --- names ------------------------------------------------------------------------------------
    Attempt(name="up", members=(f("../evil"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, far", members=(f("../" * 30 + "etc/passwd"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, absolute", members=(f("/../etc/passwd"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, after a directory", members=(f("x/../../etc/f"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, behind dots", members=(f("./.././etc/f"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, a directory", members=(folder("..", 0o777),), shows=_LIES_OUTSIDE),
    Attempt(name="up, at the end", members=(folder("x/../..", 0o777),), shows=_LIES_OUTSIDE),
    Attempt(name="up, a link", members=(link("../evil", "/etc"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, a device", members=(node("../evil"),), shows=_LIES_OUTSIDE),
    Attempt(name="up, below a link", members=(link("l", "/"), f("l/../../f")), shows=_LIES_OUTSIDE),
    Attempt(name="up, long, GNU", members=gnu(f("../" + _LONG + "f")), shows=_LIES_OUTSIDE),
    Attempt(name="up, PAX", members=(f("ok", path="../evil"),), shows=_LIES_OUTSIDE),
    Attempt(
        name="up, in the prefix of ustar",
        members=raw((345, b"..")),
        shows=_LIES_OUTSIDE,
    ),
    Attempt(
        name="up, hard link, PAX",
        members=(f("f"), hard("h", "f", linkpath="../../etc/passwd")),
        shows=_LIES_OUTSIDE,
    ),
    Attempt(
        name="up and down again",
        members=(f("x/../f"), f("y/z/../../g")),
        shows={"/d/f": "evil", "/d/g": "evil"},
    ),
    Attempt(name="absolute name", members=(f("/etc/passwd"),), shows={"/d/etc/passwd": "evil"}),
    Attempt(
        name="absolute name of many slashes",
        members=(f("///etc//.//passwd"),),
        shows={"/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="absolute name, PAX",
        members=(f("ok", path="/etc/passwd"),),
        shows={"/d/etc/passwd": "evil", "/d/ok": ""},
    ),
    Attempt(
        name="absolute link, PAX",
        members=(link("l", "ok", linkpath="/etc"), f("l/passwd")),
        shows={"/d/l": "-> /etc", "/d/etc/passwd": "evil"},
    ),
    Attempt(
        name="the destination as a file",
        members=(f("./"), f("."), f("/"), f("ok")),
        shows={"/d": "dir", "/d/ok": "evil"},
    ),
    Attempt(
        name="the destination as a link",
        members=(link("./", "/etc"), f("passwd")),
        shows={"/d": "dir", "/d/passwd": "evil"},
    ),
    Attempt(
        name="the destination with a mode",
        members=(folder("./", 0o7777), f("ok")),
        shows={"/d/ok": "evil"},
        modes={"/d": 0o755},
    ),
    Attempt(
        name="dots that are names",
        members=(f("..."), f("..a"), f("x/...b")),
        shows={"/d/...": "evil", "/d/..a": "evil", "/d/x/...b": "evil"},
    ),
    Attempt(name="backslashes", members=(f("..\\..\\evil"),), shows={"/d/..\\..\\evil": "evil"}),
    Attempt(
        name="bytes that are no text",
        members=(f("\udcff\udcfe"),),
        shows={"/d/\udcff\udcfe": "evil"},
    ),
    Attempt(
        name="line ends and escapes", members=(f("a\nb\x1b[2J"),), shows={"/d/a\nb\x1b[2J": "evil"}
    ),
    Attempt(name="escapes in what is refused", members=(f("../\x1b[2J"),), shows="\\x1b[2J"),
    Attempt(name="name of 300 bytes", members=(f("x" * 300),), shows="file name too long"),
    Attempt(name="name of 5000 bytes", members=(f("x/" * 2500 + "f"),), shows="of 5001 bytes"),
    Attempt(name="no name", members=raw((0, bytes(1))), shows={"/d": "dir"}),
    # --- one thing over another -------------------------------------------------------------------
    Attempt(name="twice", members=(f("f", "1"), f("f", "2")), shows={"/d/f": "2"}),
    Attempt(
        name="file over a directory",
        members=(f("x/y/z"), f("x")),
        shows={"/d/x": "evil"},
    ),
    Attempt(
        name="directory over a file",
        members=(f("x"), folder("x"), f("x/y")),
        shows={"/d/x": "dir", "/d/x/y": "evil"},
    ),
    Attempt(
        name="file over a pipe",
        members=(node("p", FIFO), f("p")),
        shows={"/d/p": "evil"},
    ),
    Attempt(
        name="pipe over a directory", members=(f("p/x"), node("p", FIFO)), shows={"/d/p": "fifo"}
    ),
    Attempt(name="below a file", members=(f("x"), f("x/y")), shows="non-directory: /x"),
    Attempt(name="below a pipe", members=(node("x", FIFO), f("x/y")), shows="non-directory: /x"),
    Attempt(
        name="file over one name of a hard link",
        members=(f("a", "mine"), hard("b", "a"), f("b")),
        shows={"/d/a": "mine", "/d/b": "evil"},
    ),
    # --- bits, devices, attributes ----------------------------------------------------------------
    Attempt(
        name="set-uid bits stay",
        members=(f("s", mode=0o6755), folder("g", 0o3777), hard("h", "s")),
        shows={"/d/s": "evil"},
        modes={"/d/s": 0o6755, "/d/g": 0o3777, "/d/h": 0o6755},
    ),
    Attempt(
        name="set-uid bits stay with another owner",
        members=(f("s", mode=0o4755),),
        shows={"/d/s": "evil"},
        modes={"/d/s": 0o4755},
        chown="7:8",
    ),
    Attempt(
        name="bits of a link",
        members=(Member(name="l", kind=LINK, data="/elsewhere/keep", mode=0o4777),),
        shows={"/d/l": "-> /elsewhere/keep"},
        modes={"/elsewhere/keep": 0o600},
    ),
    Attempt(name="device that would be a whiteout", members=(node("x", CHR, (0, 0)),), shows="0:0"),
    Attempt(
        name="device with a number too large",
        members=raw((329, b"7777777\0"), kind=CHR),
        shows="bad device number",
    ),
    Attempt(
        name="directory that says it is opaque",
        members=(
            folder(
                "etc",
                SCHILY__xattr__trusted__overlay__opaque="y",
                SCHILY__xattr__user__overlay__opaque="y",
                SCHILY__xattr__user__overlay__whiteout="",
            ),
        ),
        dest="/",
        shows={"/etc/passwd": "base"},
    ),
    Attempt(
        name="directory that says it is another",
        members=(
            folder(
                "elsewhere",
                SCHILY__xattr__trusted__overlay__redirect="/etc",
                SCHILY__xattr__user__overlay__redirect="/etc",
            ),
        ),
        dest="/",
        shows={"/elsewhere/keep": "base", "/elsewhere/passwd": ""},
    ),
    Attempt(
        name="file that says it is a whiteout",
        members=(f("elsewhere/keep", "", SCHILY__xattr__user__overlay__whiteout="y"),),
        dest="/",
        shows={"/elsewhere/keep": ""},
    ),
    Attempt(
        name="file that says whose it is",
        members=(f("s", SCHILY__xattr__user__pybuild__owner="0:0", SCHILY__xattr__user__ok="1"),),
        shows={"/d/s": "evil"},
    ),
    # --- whiteouts --------------------------------------------------------------------------------
    Attempt(
        name="name of a whiteout",
        members=(f(".wh.passwd"),),
        dest="/etc",
        shows={"/etc/passwd": "base", "/etc/.wh.passwd": "evil"},
    ),
    Attempt(
        name="name of an opaque mark",
        members=(f(".wh..wh..opq"),),
        dest="/was",
        shows={"/was/.wh..wh..opq": "evil", "/was/dir/old": "base"},
    ),
    Attempt(
        name="directory named like a whiteout",
        members=(f(".wh.dir/f"),),
        dest="/was",
        shows={"/was/dir/old": "base", "/was/.wh.dir/f": "evil"},
    ),
    Attempt(
        name="link named like a whiteout",
        members=(link(".wh.dir", "/etc"),),
        dest="/was",
        shows={"/was/dir/old": "base", "/was/.wh.dir": "-> /etc"},
    ),
    # --- headers ----------------------------------------------------------------------------------
    Attempt(name="sparse, GNU", members=raw(kind=b"S"), shows="sparse file"),
    Attempt(name="sparse, PAX", members=(f("x", GNU__sparse__major="1"),), shows="sparse file"),
    Attempt(name="unknown kind", members=raw(kind=b"Z"), shows='unknown type "Z"'),
    Attempt(name="volume label", members=raw(kind=b"V"), shows='unknown type "V"'),
    Attempt(name="size below zero", members=raw((124, b"\xff" * 12)), shows="has the size -1"),
    Attempt(name="size beyond the end", members=raw((124, b"77777777777\0")), shows="ends early"),
    Attempt(name="owner below zero", members=raw((108, b"\xff" * 8)), shows="has the uid -1"),
    Attempt(name="owner too large", members=(f("x", uid="4294967295"),), shows="has the uid"),
    Attempt(name="number that is none", members=raw((100, b"0x10   \0")), shows="bad mode"),
    Attempt(name="name with a NUL, PAX", members=(f("x", path="a\0b"),), shows="NUL"),
    Attempt(name="link with a NUL, PAX", members=(link("l", "x", linkpath="a\0b"),), shows="NUL"),
)


def prepare(place: Path) -> None:
    """Write the context of all attempts."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "base.tar").write_bytes(pack(BASE))
    for number, attempt in enumerate(ATTEMPTS):
        (place / f"{number}.tar").write_bytes(pack(attempt.members))
        if attempt.then:
            (place / f"{number}-then.tar").write_bytes(pack(attempt.then))


def stage(number: int) -> str:
    """Return the stage that adds an attempt's archive."""
    attempt = ATTEMPTS[number]
    words = "ADD " + (f"--chown={attempt.chown} " if attempt.chown else "")
    lines = ["FROM scratch", "ADD base.tar /", f"{words}{number}.tar {attempt.dest}"]
    if attempt.then:
        lines.append(f"{words}{number}-then.tar {attempt.dest}")
    return "\n".join(lines) + "\n"


def together() -> str:
    """Return a Dockerfile whose image has a directory for each archive that can be unpacked."""
    numbers = [n for n, attempt in enumerate(ATTEMPTS) if not attempt.refused]
    text = "".join(stage(n).replace("scratch", f"scratch AS s{n}", 1) for n in numbers)
    return text + "FROM scratch\n" + "".join(f"COPY --from=s{n} / /{n}/\n" for n in numbers)


Tree = dict[str, tuple[str, int, int, int]]


def read_tree(path: Path) -> Tree:
    """Return what a tar has, by path: what it is, its mode and its owner."""
    found: Tree = {}
    with tarfile.open(path, errors="surrogateescape") as archive:
        for member in archive:
            at = "/" + member.name.removeprefix("./").rstrip("/")
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                text = file.read().decode("utf-8", "surrogateescape")
            elif member.islnk():
                text = found["/" + member.linkname.strip("/")][0]
            elif member.issym():
                text = f"-> {member.linkname}"
            else:
                text = {DIR: "dir", FIFO: "fifo"}.get(
                    member.type, f"{member.devmajor}:{member.devminor}"
                )
            found[at] = (text, member.mode, member.uid, member.gid)
    return found


def faults(attempt: Attempt, before: Tree, after: Tree) -> list[str]:
    """Return what an archive has done that it may not, or has not done that it should."""
    assert not isinstance(attempt.shows, str)
    wrong: list[str] = []
    inside = {"/link": "/elsewhere", "/link/": "/elsewhere", "/link/sub": "/elsewhere/sub"}.get(
        attempt.dest, "/was/dir" if "/up/" in attempt.dest else attempt.dest
    )
    if attempt.dest != "/":
        for path in before.keys() | after.keys():
            is_outside = path != inside and not path.startswith(inside + "/")
            if is_outside and before.get(path) != after.get(path):
                wrong.append(f"{path}: was {before.get(path)}, is {after.get(path)}")
    for path, text in attempt.shows.items():
        found = after[path][0] if path in after else ""
        if found != text:
            wrong.append(f"{path}: {found!r}, not {text!r}")
    for path, mode in attempt.modes.items():
        if path not in after or after[path][1] != mode:
            wrong.append(f"{path}: {after.get(path)}, not mode {mode:o}")
    return wrong


def judge(number: int, before: Tree, after: Tree | str) -> list[str]:
    """Return what is wrong with what came of an attempt: a tree, or an error's text."""
    attempt = ATTEMPTS[number]
    if isinstance(after, str):
        if attempt.refused and attempt.refused in after:
            return []
        return [f"error: {after}"]
    if attempt.refused:
        return ["it was unpacked"]
    return faults(attempt, before, after)


def below(tree: Tree, top: str) -> Tree:
    """Return a part of *tree* as a tree of its own."""
    start = f"/{top}/"
    return {
        "/" + path[len(start) :]: found for path, found in tree.items() if path.startswith(start)
    }


def run_all(
    place: Path, build: Callable[[str], Tree | str], *, refused: bool = True
) -> dict[str, list[str]]:
    """Add all archives; return what is wrong, by attempt.

    Args:
        place: the context.
        build: builds a Dockerfile there; returns what its image has, or the error's text.
        refused: those that cannot be unpacked are tried, too.
    """
    prepare(place)
    before, after = build("FROM scratch\nADD base.tar /\n"), build(together())
    assert not isinstance(before, str), before
    assert not isinstance(after, str), after
    wrong: dict[str, list[str]] = {}
    for number, attempt in enumerate(ATTEMPTS):
        if attempt.refused and not refused:
            continue
        part = build(stage(number)) if attempt.refused else below(after, str(number))
        wrong[attempt.name] = judge(number, before, part)
    return wrong


def in_this_process(place: Path) -> dict[str, list[str]]:
    """Add all archives on the rung that we are on."""
    import pybuild
    from pybuild.model.errors import PybuildError

    def build(dockerfile: str) -> Tree | str:
        out = place / "out.tar"
        try:
            pybuild.build(
                place / "context",
                dockerfile=dockerfile.encode(),
                outputs=[f"type=tar,dest={out}"],
                root=place / "store",
            )
        except PybuildError as error:
            return error.message
        return read_tree(out)

    return run_all(place / "context", build)


if __name__ == "__main__":
    print(json.dumps(in_this_process(Path(sys.argv[1]))))
