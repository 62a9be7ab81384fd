"""How names and sentences look, of all rooms: openings of docstrings, names of classes, sizes of modules."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.test_packaging import ROOMS

PLACES = ("pybuild", *ROOMS)
RIDDLE = re.compile(
    r'^ *r?"""\s*(?:What|Whatever|Whoever|Who|Which'
    r"|(?:Say|Tell) (?:what|which|who|whether|how|where)"
    r"|Return (?:what|whatever|which|who|whoever))\b.*",
    re.MULTILINE,
)
"""Openings that hide the thing: a docstring's first noun is what is returned, done or held."""

RIDDLE_NAMES = frozenset(
    ("asked", "elsewhere", "found", "lost", "madeof", "together", "told", "wanted", "whereabouts")
)
"""Words of names that hide the thing, too."""

OTHERS_WORDS = re.compile("not_found|connection_lost", re.IGNORECASE)
"""Words of others, which stay: a status of gRPC and of HTTP, a method of the event loop's protocols."""

RIDDLE_PART = re.compile(rf"(?<![a-z])({'|'.join(RIDDLE_NAMES)})(?![a-z])", re.IGNORECASE)
NOT_CODE = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|\#.*'''
)

PLAIN = (
    *(
        "bake",
        "buildkit",
        "builds",
        "cache",
        "client",
        "cluster",
        "commandline",
        "containers",
        "daemon",
    ),
    *(
        "engine",
        "executor",
        "explain",
        "exporter",
        "frontend",
        "grammar",
        "history",
        "image",
        "model",
        "net",
        "networks",
    ),
    *("progress", "pybuild", "registry", "remotecache", "solver", "testing", "volumes", "web"),
)
"""Rooms without such names."""

RIDDLES_LEFT: dict[str, int] = {}
"""How many are still to be rewritten, by room; it may only shrink."""

PUBLIC_CLASS = re.compile(r"^class ([a-zA-Z]\w*)", re.MULTILINE)

SAME_NAME = {
    "BlobSink": "the registry client's is the protocol that the image room's need not know",
    "BlobWriter": "the registry client's is the protocol that the cache satisfies",
    "Command": "an instruction of the Dockerfile; a subcommand of the command line",
    "Connection": "of HTTP/1; of HTTP/2; nobody uses both",
    "Copy": "the instruction; the op; daemon/session's is to be renamed",
    "Job": "of the solver; of a worker",
    "Policy": "of sources; of pruning; both are the field's words",
    "Rule": "of build checks; of ignore files; of source policies; of access to repositories",
    "Run": "the instruction; the state machine's instruction",
}
"""Public classes whose name stands twice, each with the reason; it may only shrink."""

SHORT = {
    "buildkit/methods.py": "names for both sides of a connection; either side's room would be a circle",
    "buildkit/session/failures.py": "to be joined with a neighbour",
    "buildkit/session/pieces.py": "to be joined with a neighbour",
    "daemon/control/health.py": "one gRPC service",
    "image/layer/writing.py": "monitors of containers and commands import it, and nothing heavier",
    "model/clock.py": "one protocol, for types alone",
    "model/package.py": "a bare process imports it before all else",
    "model/span.py": "a noun of the model, imported alone",
    "registry/client/samestore.py": "header names that client and server share",
}
"""Modules of under 25 lines, each with the reason; packages' faces and generated messages apart."""

MOST_LINES = 500
"""The lines of a module or of a test file: beyond that it holds two nouns."""

MOST_FRONT_DOOR_LINES = 5500
"""The lines of `pybuild/` itself: the front door reads values and prints; a rule belongs into a room."""

MOST_DAEMON_LINES = 9000
"""The lines of `daemon/` without Docker's API: it serves builds; what knows no client lies further down."""

PRIVATE = re.compile(
    r"# pyright: ignore\[reportPrivateUsage|setattr\([\w.]+, \"_[a-zA-Z]|\"pybuild\.[\w.]*\._[a-zA-Z]"
)
MOST_REACHES = 3
"""The lines of tests that use another module's private name; it may only shrink."""


def test_allowance_is_for_rooms() -> None:
    assert set(RIDDLES_LEFT) <= set(PLACES)


@pytest.mark.parametrize("room", PLACES)
def test_docstrings_begin_with_the_thing(room: str) -> None:
    riddles = [
        f"{path.relative_to(ROOT)}: {opening[0].strip()}"
        for path in _modules(room)
        for opening in RIDDLE.finditer(_text(path))
    ]
    allowed = RIDDLES_LEFT.get(room, 0)
    assert len(riddles) <= allowed, "\n".join(riddles)
    assert len(riddles) == allowed, f"lower RIDDLES_LEFT[{room!r}] to {len(riddles)}"


@pytest.mark.parametrize("room", PLAIN)
def test_names_are_of_the_thing(room: str) -> None:
    riddles = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in _modules(room)
        for line, name in _given_names(path)
        if not RIDDLE_NAMES.isdisjoint(OTHERS_WORDS.sub("", name.lower()).split("_"))
    ]
    assert riddles == []


def test_public_class_names_stand_once() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for room in PLACES:
        for path in _modules(room):
            for name in PUBLIC_CLASS.findall(_text(path)):
                places[name].append(str(path.relative_to(ROOT)))
    twice = {name: paths for name, paths in places.items() if len(paths) > 1}
    assert {name: paths for name, paths in twice.items() if name not in SAME_NAME} == {}
    assert set(SAME_NAME) - set(twice) == set(), "these stand once by now"


def test_modules_are_worth_a_file() -> None:
    short = {
        str(path.relative_to(ROOT))
        for room in PLACES
        for path in _modules(room)
        if path.name not in ("__init__.py", "__main__.py") and len(_text(path).splitlines()) < 25
    }
    assert short - set(SHORT) == set()
    assert set(SHORT) - short == set(), "these have grown or gone"


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    files = [path for place in (*PLACES, "tests") for path in _modules(place)]
    long = {str(path.relative_to(ROOT)): len(_text(path).splitlines()) for path in files}
    assert {name: lines for name, lines in long.items() if lines > MOST_LINES} == {}


def test_the_front_door_is_small() -> None:
    lines = sum(len(_text(path).splitlines()) for path in _modules("pybuild"))
    assert lines < MOST_FRONT_DOOR_LINES, f"{lines} lines: move what is no argument or text down"


def test_the_build_server_is_small() -> None:
    modules = [path for path in _modules("daemon") if path.parent.name != "rest"]
    lines = sum(len(_text(path).splitlines()) for path in modules)
    assert lines < MOST_DAEMON_LINES, f"{lines} lines: move what knows no client of the server down"


def test_vocabulary_is_sorted_and_its_owners_exist() -> None:
    tables: list[list[list[str]]] = []
    for line in (ROOT / "docs/VOCABULARY.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("|---"):
            tables.append([])
        elif line.startswith("| ") and tables and not line.startswith(("| word", "| not so")):
            tables[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
    field, ours, _ = tables
    for table in (field, ours):
        words = [row[0].casefold() for row in table]
        assert words == sorted(words)
        assert [word for word, count in Counter(words).items() if count > 1] == []
    owners = [row[2].strip("`") for row in ours]
    assert [owner for owner in owners if not (ROOT / owner).is_file()] == []


def test_no_merge_was_left_half_done() -> None:
    """Conflicts of a rebase have stood in `docs/decisions.md` for an evening: prose has no checker."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    marks = ("<<<<<<< ", ">>>>>>> ")
    assert [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(_text(path).splitlines(), 1)
        if line.startswith(marks)
    ] == []


def test_tests_reach_for_private_names_in_few_places() -> None:
    """A limit that tests lower, or a function that they call, is public."""
    reaches = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in _modules("tests")
        if PRIVATE.search(_text(path))
        for number, line in enumerate(_text(path).splitlines(), 1)
        if PRIVATE.search(line)
    ]
    assert len(reaches) <= MOST_REACHES, "\n".join(reaches)


@functools.cache
def _modules(room: str) -> tuple[Path, ...]:
    """Return the modules of a room that people write; messages of protobuf are made."""
    made = ROOT / "buildkit/pb"
    linked = {ROOT / "pybuild" / name for name in ROOMS}
    return tuple(
        Path(folder, name)
        for folder, _, names in os.walk(ROOT / room)
        if Path(folder) != made and linked.isdisjoint((Path(folder), *Path(folder).parents))
        for name in sorted(names)
        if name.endswith(".py")
    )


@functools.cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _given_names(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each name that a module gives to a variable, an argument, a function or a class."""
    if not RIDDLE_PART.search(OTHERS_WORDS.sub("", NOT_CODE.sub("", _text(path)))):
        return  # Parsing all modules takes as long as all other tests of this folder.
    for node in ast.walk(ast.parse(_text(path))):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, name
            case ast.arg(arg=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield node.lineno, name
            case _:
                pass
