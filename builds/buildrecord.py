"""A build of the history as people ask for it, whoever keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Any

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError
from pybuild.model.jsontext import as_list, as_number, as_object


class BuildStatus(StrEnum):
    RUNNING = "running"
    COMPLETED = "completed"
    ERROR = "error"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRecord:
    """One build.

    Attributes:
        ref: its client's name for it; empty for builds of the command line.
        at: when it began, seconds since the epoch; *seconds* is how long it took, or None while it goes on.
        args: build arguments, ``NAME=value``, without secrets; *attrs* is what else was asked for.
        error: why it failed, with *step* and *log*, the end of that step's output.
        images: digests of its images; *image_id* and *names* are the local store's.
    """

    id: str
    ref: str = ""
    name: str = ""
    status: BuildStatus
    at: float
    seconds: float | None = None
    context: str = ""
    dockerfile: str = ""
    target: str = ""
    args: tuple[str, ...] = ()
    attrs: Mapping[str, str] = field(default_factory=dict[str, str])
    tags: tuple[str, ...] = ()
    total: int = 0
    completed: int = 0
    cached: int = 0
    warnings: int = 0
    error: str = ""
    step: str = ""
    log: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    image_id: str = ""
    names: tuple[str, ...] = ()


def from_facts(id: str, facts: Mapping[str, Any]) -> BuildRecord:
    """Read what the store has of a build; what is not as it should be is left out."""
    error, steps = as_object(facts.get("error")), as_object(facts.get("steps"))

    def text(name: str) -> str:
        return str(facts.get(name) or "")

    def texts(value: object) -> tuple[str, ...]:
        return tuple(map(str, as_list(value)))

    def count(name: str) -> int:
        return int(as_number(steps.get(name)))

    try:
        status = BuildStatus(text("status"))
    except ValueError:
        status = BuildStatus.ERROR
    is_running = status is BuildStatus.RUNNING
    return BuildRecord(
        id=id,
        ref=text("ref"),
        name=text("name") or text("context"),
        status=status,
        at=as_number(facts.get("at")),
        seconds=None if is_running else as_number(facts.get("seconds")),
        context=text("context"),
        dockerfile=text("dockerfile"),
        target=text("target"),
        args=texts(facts.get("args")),
        attrs={name: str(value) for name, value in as_object(facts.get("attrs")).items()},
        tags=texts(facts.get("tags")),
        total=count("total"),
        completed=count("completed"),
        cached=count("cached"),
        warnings=int(as_number(facts.get("warnings"))),
        error=str(error.get("message") or ""),
        step=str(error.get("step") or ""),
        log=texts(error.get("log")),
        images=texts(facts.get("images")),
        image_id=text("image_id"),
        names=texts(facts.get("names")),
    )


def find_record(records: Sequence[BuildRecord], text: str) -> BuildRecord:
    """Return the build that *text* names: an id or the start of one, or ``^N`` for the N-th before the last.

    Args:
        records: the latest first; the empty *text* names that.

    Raises:
        UserError: there is none, or more than one.
    """
    if not records:
        raise UserError("no build is known here", hints=["pybuild build keeps a history"])
    listed = "list them with pybuild history ls"
    if not text or text.startswith("^"):
        number = text[1:] if text else "0"
        if not (number.isascii() and number.isdecimal() and len(number) < 10):
            raise UserError(
                f'"{text}" names no build', hints=["^0 is the last one, ^1 that before it"]
            )
        if int(number) >= len(records):
            raise UserError(f"there are only {len(records)} builds: none is {text}", hints=[listed])
        return records[int(number)]
    matches = [one for one in records if one.id.startswith(text) or one.ref.startswith(text)]
    exact = [one for one in matches if text in (one.id, one.ref)]
    if not matches:
        raise UserError(f'no build "{text}" is known here', hints=[listed])
    if len(exact or matches) > 1:
        ids = ", ".join(one.id for one in matches[:5])
        raise UserError(f'build "{text}" could be any of {ids}')
    return (exact or matches)[0]
