"""Archives that go through links, symbolic and hard, or put them where others go."""

from __future__ import annotations

from tests.security.archivemembers import FIFO, HARD, Attempt, Member, f, folder, hard, link, node

_LIES_OUTSIDE = "lies outside of the destination"
_NOT_THERE = "which is not there"
_SLASH = "/" * 3

LINK_ATTEMPTS = (
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
)
