"""One build as its history has it: data first, text is made of it elsewhere (`text`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from typing import Any

from pybuild.explain.difference import Difference
from pybuild.model.dataclass import dataclass
from pybuild.model.jsontext import as_list, as_number, as_object

FORMAT = 1
_MOST_SHOWN = 20


class Reason(StrEnum):
    """Why no stored result was used."""

    CHANGED = "changed"  # one was near, and what it was made of differs
    EVICTED = "evicted"  # it was here, and was freed
    NEW = "new"  # nothing like it is known
    IGNORED = "no-cache"  # nobody wanted one: --no-cache, or too old; of the step or of an input
    UNEXPLAINED = "unexplained"  # one was near, yet nothing that is kept of it differs


class Status(StrEnum):
    CACHED = "cached"
    RAN = "ran"
    FAILED = "failed"
    MISSED = "missed"  # it had to run, and was not let
    UNREACHED = "unreached"  # the build ended before its turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """Why a step ran.

    Attributes:
        nearest: the name of the result that it is compared with.
        place: the cache that had it; empty for this store.
        differences: the first is the likeliest cause.
        more: the number that is not listed.
    """

    reason: Reason
    nearest: str = ""
    place: str = ""
    differences: tuple[Difference, ...] = ()
    more: int = 0

    @property
    def cause(self) -> Difference | None:
        return self.differences[0] if self.differences else None

    def cut(self) -> Miss:
        """Return it with no more differences than a history should keep."""
        more = len(self.differences) - _MOST_SHOWN
        if more <= 0:
            return self
        return replace(self, differences=self.differences[:_MOST_SHOWN], more=self.more + more)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheMountOrigin:
    """A cache mount, by its id, and the place that its first content is from; it counts in no key."""

    id: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One step; *number* counts from 1 in the order of the definition.

    *cpu_seconds* and *peak_memory_bytes* are those of its processes, as `VertexUsage` has them. Of its *seconds* it spent
    *waited_seconds* on waiting for a place, *pulled_seconds* on inputs from elsewhere: as far as it said so.
    """

    number: int
    name: str
    status: Status
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    waited_seconds: float = 0.0
    pulled_seconds: float = 0.0
    key: str = ""
    miss: Miss | None = None
    mounts: tuple[CacheMountOrigin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildReport:
    """One build; *at* is when it began, seconds since the epoch; *error* how it failed.

    *ref* is its client's name for it; empty for builds of the command line.
    """

    id: str
    at: float
    seconds: float
    context: str
    dockerfile: str
    target: str = ""
    error: str = ""
    ref: str = ""
    steps: tuple[StepReport, ...] = ()

    @property
    def misses(self) -> list[StepReport]:
        """The steps that had to run."""
        return [step for step in self.steps if step.miss is not None]


def to_json(report: BuildReport) -> dict[str, Any]:
    """Return the object that `from_json` reads and ``--format=json`` shows."""
    return {"format": FORMAT, **asdict(report)}


def from_json(value: object) -> BuildReport:
    """Read what `to_json` made.

    Raises:
        ValueError: it is of another format, or broken.
    """
    row = as_object(value)
    if row.get("format") != FORMAT:
        raise ValueError(f"a history of format {row.get('format')!r}")
    return BuildReport(
        id=str(row.get("id")),
        at=as_number(row.get("at")),
        seconds=as_number(row.get("seconds")),
        context=str(row.get("context") or ""),
        dockerfile=str(row.get("dockerfile") or ""),
        target=str(row.get("target") or ""),
        error=str(row.get("error") or ""),
        ref=str(row.get("ref") or ""),
        steps=tuple(_step(as_object(step)) for step in as_list(row.get("steps"))),
    )


def _step(row: Mapping[str, Any]) -> StepReport:
    miss = as_object(row.get("miss"))
    return StepReport(
        number=int(as_number(row.get("number"))),
        name=str(row.get("name") or ""),
        status=Status(str(row.get("status"))),
        seconds=as_number(row.get("seconds")),
        cpu_seconds=as_number(row.get("cpu_seconds")),
        peak_memory_bytes=int(as_number(row.get("peak_memory_bytes"))),
        waited_seconds=as_number(row.get("waited_seconds")),
        pulled_seconds=as_number(row.get("pulled_seconds")),
        key=str(row.get("key") or ""),
        miss=_miss(miss) if miss else None,
        mounts=tuple(_mount(as_object(one)) for one in as_list(row.get("mounts"))),
    )


def _mount(row: Mapping[str, Any]) -> CacheMountOrigin:
    return CacheMountOrigin(id=str(row.get("id") or ""), origin=str(row.get("origin") or ""))


def _miss(row: Mapping[str, Any]) -> Miss:
    return Miss(
        reason=Reason(str(row.get("reason"))),
        nearest=str(row.get("nearest") or ""),
        place=str(row.get("place") or ""),
        differences=tuple(_difference(as_object(one)) for one in as_list(row.get("differences"))),
        more=int(as_number(row.get("more"))),
    )


def _difference(row: Mapping[str, Any]) -> Difference:
    was, now = row.get("was"), row.get("now")
    return Difference(
        field=str(row.get("field") or ""),
        was=None if was is None else str(was),
        now=None if now is None else str(now),
        path=str(row.get("path") or ""),
        note=str(row.get("note") or ""),
    )
