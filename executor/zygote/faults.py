"""How a worker says what went wrong, in terms that cross a process border.

`Fault` becomes `UserError`, `EnvironmentFault`, `InternalError` or `SourceMoved` in the main process; the model's
own classes are not used here because importing them costs more than running a step.
"""

from __future__ import annotations

USER = "user"
ENVIRONMENT = "environment"
INTERNAL = "internal"
MOVED = "moved"
KINDS = (USER, ENVIRONMENT, INTERNAL, MOVED)


class Fault(Exception):
    """Something the caller must hear of.

    Args:
        kind: ``user``, ``environment`` or ``internal``: who can mend it; ``moved``: a file of the
            client changes while it is read.
        message: starts in lower case and names the value.
        hints: at most two things to do.
    """

    def __init__(self, kind: str, message: str, hints: tuple[str, ...] | list[str] = ()) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: want one of {', '.join(KINDS)}")
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hints = tuple(hints)


def moved(path: str) -> Fault:
    """Return the fault for a file of the client, a path inside its tree, that is not what it was."""
    return Fault(
        MOVED, f'"/{path}" changes while it is read', ("build again when nothing writes to it",)
    )


def describe_os_error(error: OSError, doing: str = "") -> str:
    """Return ``doing: file: strerror`` with the parts that are known."""
    parts = [doing] if doing else []
    for name in (error.filename, error.filename2):
        if name is not None:
            text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
            parts.append(text)
    parts.append((error.strerror or str(error) or type(error).__name__).lower())
    return ": ".join(parts)
