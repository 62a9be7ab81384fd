"""Options of variables and labels: one by one, and files of them."""

from __future__ import annotations

from pybuild.arguments.values import parse_pairs
from pybuild.containers.environment import environment_with, labels_with
from pybuild.containers.namedlines import lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pybuild.commandline.parser import Parsed


def environment_of(parsed: Parsed, image: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the environment: what ``-e`` and ``--env-file`` set, then what they leave of the image's [CTR-1]."""
    return environment_with(*variables_of(parsed), image)


def variables_of(parsed: Parsed) -> tuple[dict[str, str], list[str]]:
    """Return the variables that have values, and the names of all that were named."""
    lines = [line for path in parsed.many("env-file") for line in lines_of(path)]
    items = [*lines, *parsed.many("env")]
    given = parse_pairs(items, "env", from_environment=True)
    return given, [item.partition("=")[0] for item in items]


def labels_of(parsed: Parsed, image: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels: the image's, and those that were given."""
    lines = [line for path in parsed.many("label-file") for line in lines_of(path)]
    given = parse_pairs([*lines, *parsed.many("label")], "label", from_environment=False)
    return labels_with(given, image)
