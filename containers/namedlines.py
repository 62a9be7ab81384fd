"""Words about containers as people write them: files of ``NAME=value``, and ``CONTAINER:PATH``."""

from __future__ import annotations

from pybuild.model.errors import UsageError


def lines_of(path: str) -> list[str]:
    """Return the lines of a file of ``NAME=value``, without the comments.

    Raises:
        UsageError: it cannot be read, or a name has blanks in it: it is a line of something else.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {str(reason).lower()}") from error
    named = [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for line in named:
        name = line.partition("=")[0]
        if " " in name or "\t" in name:
            raise UsageError(f"{path}: variable '{name}' contains whitespaces")
    return named


def container_place(text: str) -> tuple[str, str]:
    """Return the container, or "" for this machine, and the path."""
    name, colon, path = text.partition(":")
    if not colon or text.startswith(("/", "./", "../", ".")) or not name:
        return "", text
    return name, path
