"""Errors of workers: made late, because a worker must not import the error tree before it fails."""

from __future__ import annotations

MOST_PATH_BYTES = 1 << 15
"""Of what is archived or copied out: eight times as long as any program can say it. A tree of directories
in each other costs few bytes, and the paths of all of them the square of their number."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pybuild.model.errors import EnvironmentFault, UserError


def refuse(message: str, *hints: str) -> EnvironmentFault:
    """Return the fault for bytes that others made and that we will not take."""
    from pybuild.model.errors import EnvironmentFault

    return EnvironmentFault(message, hints=hints)


def reject(message: str, *hints: str) -> UserError:
    """Return the error for a tree that the user's own steps made and that no image can hold."""
    from pybuild.model.errors import UserError

    return UserError(message, hints=hints)


def too_deep(path: bytes) -> UserError:
    """Return the error for a tree with a path of more than `MOST_PATH_BYTES`."""
    return reject(
        f"{shown(path[:60])}… is {path.count(b'/') + 1} directories deep: "
        f"no image holds paths of more than {MOST_PATH_BYTES} bytes",
        "remove it in the step that makes it",
    )


def shown(name: bytes) -> str:
    """Return a file name for people: quoted, on one line, whatever bytes it has."""
    text = name.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:300])
    return f'"{text}"'
