"""Options of variables and labels: one by one, and files of them."""

from __future__ import annotations

from pybuild.arguments.values import parse_pairs
from pybuild.containers.environment import environment_with, labels_with
from pybuild.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.commandline.parser import Parsed


def environment_of(parsed: Parsed, image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the environment: what ``-e`` and ``--env-file`` set, then what they leave of the image's [CTR-1]."""
    lines = [line for path in parsed.many("env-file") for line in _lines_of(path)]
    items = [*lines, *parsed.many("env")]
    given = parse_pairs(items, "env", from_environment=True)
    named = {item.partition("=")[0] for item in items}
    return environment_with(given, named, image)


def labels_of(parsed: Parsed, image: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels: the image's, and those that were given."""
    lines = [line for path in parsed.many("label-file") for line in _lines_of(path)]
    given = parse_pairs([*lines, *parsed.many("label")], "label", from_environment=False)
    return labels_with(given, image)


def _lines_of(path: str) -> list[str]:
    """Return the lines of a file of ``NAME=value``, without the comments.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {str(reason).lower()}") from error
    return [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
