"""Archives that mean harm to what lies beside them, as a table, and what unpacks them.

It imports nothing but the package, the standard library and its own parts, because it also runs as a
plain user in a copy of both, by its text. Each attempt is the source of an ADD; whatever comes of it,
nothing outside of the destination may change, in the image or on the host.
"""

from __future__ import annotations

import json
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.security.archivemembers import BASE, DIR, FIFO, Attempt, pack
from tests.security.linkattempts import LINK_ATTEMPTS
from tests.security.otherattempts import OTHER_ATTEMPTS

ATTEMPTS = (*LINK_ATTEMPTS, *OTHER_ATTEMPTS)


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


def program() -> str:
    """Return this program as one text, its parts first: who runs it may not read the tests."""
    here = Path(__file__).parent
    names = ("archivemembers", "linkattempts", "otherattempts", "archives")
    parts = [here.joinpath(f"{name}.py").read_text(encoding="utf-8") for name in names]
    future = "from __future__ import annotations\n"
    own = re.compile(r"^from tests\.[^(\n]*(\([^)]*\))?\n", re.MULTILINE)
    return future + "".join(own.sub("", part.replace(future, "")) for part in parts)


if __name__ == "__main__":
    print(json.dumps(in_this_process(Path(sys.argv[1]))))
