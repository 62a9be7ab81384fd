"""Sessions at a shell with ``docker``: requests, the answers that dockerd gave, and ours where they differ.

A file ``engine/NAME.session``::

    # What the session is about; any text up to the first blank line.

    $ docker run --name one base sh -c 'echo out; exit 7'
    | out
    = 7

    $ docker rm two
    ! Error: No such container: two
    = 1
    ~ why pybuild answers otherwise, and how it does:
    ! no such container: two
    = 1

``$`` is a line of shell, ``|`` what it writes to standard output, ``!`` to standard error, ``=`` its status where that is
not 0, ``~`` a reason for the answer of ours that follows it. Ids, times and sizes stand as ``<id>``, ``<time>`` and ``<size>``.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

OWN_WORDS = "In our own words."
"""The reason of an error that says the same."""
HERE = Path(__file__).parent / "engine"


@dataclass(frozen=True)
class Answer:
    """An answer line by line, without the parts that differ from run to run."""

    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    status: int = 0

    def lines(self) -> Iterator[str]:
        """Yield it as the file has it."""
        yield from (f"| {line}".rstrip() for line in self.out)
        yield from (f"! {line}".rstrip() for line in self.err)
        if self.status:
            yield f"= {self.status}"


@dataclass(frozen=True)
class Request:
    """A line of shell, dockerd's answer, and where ours is another the reason and ours."""

    line: str
    theirs: Answer
    reason: str = ""
    ours: Answer | None = None

    @property
    def expected(self) -> Answer:
        """The answer that pybuild owes."""
        return self.theirs if self.ours is None else self.ours

    def lines(self) -> Iterator[str]:
        """Yield it as the file has it."""
        yield f"$ {self.line}"
        yield from self.theirs.lines()
        if self.ours is not None:
            yield f"~ {self.reason}"
            yield from self.ours.lines()


@dataclass(frozen=True)
class Session:
    """Requests that come one after another, on one machine."""

    name: str
    about: str
    requests: tuple[Request, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> Session:
        """Return the session of a file's text."""
        about, _, rest = text.partition("\n\n")
        blocks = re.split(r"^\$ ", rest, flags=re.MULTILINE)[1:]
        return cls(name, about, tuple(map(_request, blocks)))

    def text(self) -> str:
        """Return the file's text."""
        blocks = ["\n".join(request.lines()) for request in self.requests]
        return "\n\n".join([self.about, *blocks]) + "\n"


def sessions() -> list[Session]:
    """Return all of them, by name."""
    paths = sorted(HERE.glob("*.session"))
    return [Session.parse(path.stem, path.read_text(encoding="utf-8")) for path in paths]


def _request(block: str) -> Request:
    line, *rest = block.rstrip("\n").split("\n")
    reason: str | None = None
    theirs, ours = Answer(), Answer()
    for text in rest:
        mark, value = text[:1], text[2:]
        if mark == "~":
            reason = value
        elif reason is None:
            theirs = _with(theirs, mark, value)
        else:
            ours = _with(ours, mark, value)
    return Request(line, theirs) if reason is None else Request(line, theirs, reason, ours)


def _with(answer: Answer, mark: str, value: str) -> Answer:
    match mark:
        case "|":
            return replace(answer, out=(*answer.out, value))
        case "!":
            return replace(answer, err=(*answer.err, value))
        case "=":
            return replace(answer, status=int(value))
        case _:
            raise ValueError(f"no line of a session: {mark} {value}")


_VARYING = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b20\d\d-\d\d-\d\d[T ][0-9:.]+(Z|[+-]\d\d:?\d\d| \+0000 UTC)"), "<time>"),
    (re.compile(r"\b(Less than a second|About an? \w+|\d+ (second|minute)s?)( ago)?\b"), "<age>"),
    (re.compile(r"\b\d+(\.\d+)?[kM]B\b"), "<size>"),
    (re.compile(r"\b\d+\.00, as there are only \d+ CPUs"), "<n>.00, as there are only <n> CPUs"),
    (re.compile(r"available: 0-\d+"), "available: 0-<n>"),
    (re.compile(r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b"), "<mac>"),
)
_PREFIX = re.compile(
    r"^(error: |docker: |Error response from daemon: |Error: |OCI runtime exec failed: exec failed: |conflict\. "
    r"|failed to create shim task: OCI runtime create failed: runc create failed: "
    r"|unable to start container process: |error when allocating new name: )+",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"^(hint: |See 'docker |Run 'docker |Usage: |\| |Error: failed to (start|rename) container|exit status 1$|$)"
)
_OWN_STATUS = re.compile(r"docker (run|start -a|exec|wait|attach|logs)\b")
_FAILED = 1


def answer(request: str, out: str, err: str, status: int, roots: Mapping[str, str]) -> Answer:
    """Return an answer without what differs from run to run, and an error without who says it and the way out.

    Commands that do not end with the status of a process have one that says how bad it is, docker 1 and 125 and pybuild 1
    to 3: all the same here.

    Args:
        roots: directories whose names differ, and what stands for them.
    """
    shown = _facts(out) if re.search(r"\binspect\b(?!.*(--format|-f) )", request) else None
    lines = out.split("\n")[:-1] if out.endswith("\n") else out.split("\n") if out else []
    faults = [line for line in err.split("\n") if not _ADVICE.match(line)]
    faults = [_fault(line) for line in faults]
    if status in (2, 3, 125) and not _OWN_STATUS.search(request):
        status = _FAILED
    return Answer(
        tuple(steady(line, roots) for line in (lines if shown is None else shown)),
        tuple(steady(line, roots) for line in faults if line),
        status,
    )


def _fault(line: str) -> str:
    text = re.sub(r"(: stat \S+)?(: [a-zA-Z $]+): unknown$", r"\2", _PREFIX.sub("", line))
    return text[:1].lower() + text[1:]


def steady(text: str, roots: Mapping[str, str]) -> str:
    """Return a line without what differs from run to run."""
    for root, name in roots.items():
        text = text.replace(root, name)
    for pattern, name in _VARYING:
        text = pattern.sub(name, text)
    return text.rstrip()


@cache
def accepted_fields() -> dict[str, str]:
    """Return the fields of ``inspect`` that are left out of the comparison, each with the reason."""
    text = (HERE / "fields.toml").read_text(encoding="utf-8")
    return {path: reason for path, reason in tomllib.loads(text).items()}


def _facts(out: str) -> list[str] | None:
    """Return the fields of the output of ``inspect``, one a line; None where it is no JSON."""
    try:
        documents = json.loads(out)
    except ValueError:
        return None
    lines = [line for one in documents for line in sorted(_fields(one, ""))]
    accepted = re.compile("|".join(f"(?:{path})" for path in accepted_fields()) + r"\Z")
    return [line for line in lines if not accepted.match(line.partition(" = ")[0])]


def _fields(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, object]", value).items():
            yield from _fields(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        # Go has these in no order.
        inners = cast("list[dict[str, object]]", value)
        inners = sorted(inners, key=lambda one: str(one.get("Destination", "")))
        for place, inner in enumerate(inners):
            yield from _fields(inner, f"{path}[{place}]")
    else:
        yield f"{path} = {json.dumps(value, ensure_ascii=False)}"
