"""Archives whose names, kinds, bits or headers mean harm."""

from __future__ import annotations

from tests.security.archivemembers import (
    CHR,
    FIFO,
    LINK,
    Attempt,
    Member,
    f,
    folder,
    gnu,
    hard,
    link,
    node,
    raw,
)

_LIES_OUTSIDE = "lies outside of the destination"
_LONG = "x/" * 80

OTHER_ATTEMPTS = (
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
