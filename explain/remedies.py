"""The ways out of steps that ran though nothing of theirs changed, or though what changed need not count."""

from __future__ import annotations

from pybuild.explain.report import Miss, Reason
from pybuild.model.printable import printable


def remedy_of(miss: Miss, *, has_cache: bool) -> str:
    """Return the advice that spares the step the next time; empty where it simply had to run.

    Args:
        has_cache: the build read a cache from elsewhere.
    """
    match miss.reason:
        case Reason.NEW if not has_cache:
            return "a machine that is new each time needs a cache: build with --cache URL"
        case Reason.EVICTED if miss.place:
            return "keep more there: its layers were deleted while the cache still names them"
        case Reason.EVICTED:
            return "keep more here: raise --cache-max, or prune less"
        case Reason.IGNORED:
            return "leave out --no-cache, or name one stage: --no-cache-filter; or have a longer max-age"
        case Reason.CHANGED if miss.cause is not None:
            kind, _, what = miss.cause.field.partition(".")
            path = printable(miss.cause.path)
            if kind == "file" and what == "mode":
                return "modes that differ between checkouts do not count with --modes=git"
            if kind == "file":
                return f"if the step needs no {path}: name it in .dockerignore, or copy it further down"
            if kind in ("env", "arg") and what != "order":
                return f"if only later steps need {printable(what)}: declare it below this one"
            if kind == "base":
                return "a base named by its digest changes when you say so: FROM name:tag@sha256:…"
        case _:
            pass
    return ""
