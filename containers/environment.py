"""The environment and the labels of a container: what each has, what its image says, and what was given. Pure."""

from __future__ import annotations

from pybuild.model.jsontext import as_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any


def texts_of(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of an image's config; empty where it has none."""
    texts: list[object] = config.get(key) or []
    return tuple(str(item) for item in texts)


def environment_with(
    given: Mapping[str, str], named: Collection[str], image: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return an environment: what was *given*, then what is left of the image's [CTR-1].

    Args:
        named: the variables that were named, also those that are to be none.
    """
    env = [item for item in texts_of(image, "Env") if item.partition("=")[0] not in named]
    return (*(f"{key}={value}" for key, value in given.items()), *env)


def labels_with(given: Mapping[str, str], image: Mapping[str, Any]) -> dict[str, str]:
    """Return labels: the image's, and those that were given."""
    known = {str(key): str(value) for key, value in as_object(image.get("Labels")).items()}
    return {**known, **given}


def environment(hostname: str, env: Sequence[str], *, tty: bool) -> tuple[str, ...]:
    """Return the environment of a process: what every one of a container has, and *env* over it [CTR-10].

    A name without a value stands for a variable that there is not [CTR-1].
    """
    given = {name: value if equals else None for name, equals, value in _parted(env)}
    usual = {"PATH": given.get("PATH"), "HOSTNAME": hostname, "TERM": "xterm" if tty else None}
    values = {name: value for name, value in (usual | given).items() if value is not None}
    return tuple(f"{name}={value}" for name, value in values.items())


def _parted(env: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    return (item.partition("=") for item in env)
