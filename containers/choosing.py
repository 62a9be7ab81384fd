"""Containers as ``ps --filter`` picks them [CTR-30]. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from pybuild.containers.config import ContainerConfig
from pybuild.containers.state import ContainerState
from pybuild.model.errors import UsageError
from pybuild.model.filtertext import filter_values
from pybuild.model.text import boolean
from pybuild.volumes.mountpoint import MountKind

Test = Callable[[ContainerConfig, ContainerState], bool]

STATES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
_HEALTH = ("starting", "healthy", "unhealthy", "none")
_KNOWN = (
    *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label"),
    *("label!", "name", "network", "publish", "since", "status", "until", "volume"),
)


class Choice:
    """The filters of one list.

    Attributes:
        shows_ended: containers that do not run are meant, too.
    """

    def __init__(
        self,
        texts: Sequence[str],
        images: Callable[[str], Collection[str]],
        created: Callable[[str], int],
        *,
        known: Collection[str] = _KNOWN,
        networks: Callable[[str], str] = str,
    ) -> None:
        """Read ``key=value`` texts: of one key any value fits, of labels all must.

        Args:
            images: returns the names and digests of the image that a text names.
            created: returns the moment in which the container that a text names was created.
            networks: returns the name of the network that a text names, also by its id.

        Raises:
            UsageError: an unknown key, or a wrong value.
        """
        values = filter_values(texts, known)
        self.shows_ended = bool({"status", "exited"} & values.keys())
        if "network" in values:
            values["network"] = [networks(text) for text in values["network"]]
        self._healths = frozenset(values.pop("health", ()))
        _check("health", sorted(self._healths), _HEALTH)
        self._tests = [
            _test(key, choices, images, created) for key, choices in sorted(values.items())
        ]

    def fits(self, config: ContainerConfig, state: ContainerState, health: str = "") -> bool:
        """Return whether it is one of them; *health* as its checks say, "" where there are none."""
        return (not self._healths or (health or "none") in self._healths) and all(
            test(config, state) for test in self._tests
        )


def _test(
    key: str,
    values: Sequence[str],
    images: Callable[[str], Collection[str]],
    created: Callable[[str], int],
) -> Test:
    match key:
        case "label" | "label!":
            return _labels(values, has=key == "label")
        case "before":
            latest = min(map(created, values))
            return lambda config, _: config.created < latest
        case "since":
            earliest = max(map(created, values))
            return lambda config, _: config.created > earliest
        case "ancestor":
            names = {name for value in values for name in images(value)}
            return lambda config, _: (
                not names.isdisjoint((config.image, config.image_id, *config.image_digests))
            )
        case "exited":
            codes = {_number(value) for value in values}
            return lambda _, state: state.status == "exited" and state.exit_code in codes
        case "status":
            _check(key, values, STATES)
        case "is-task":
            flags = {boolean(value) for value in values}
            if None in flags:
                raise UsageError(f"invalid filter 'is-task=[{values[0]}]'")
            return lambda _config, _state: False in flags
        case _:
            pass
    tests = [_ONE_OF[key](value) for value in values]
    return lambda config, state: any(test(config, state) for test in tests)


def _number(value: str) -> int:
    if not value.removeprefix("-").isdecimal() or len(value) > 9:
        raise UsageError(f"invalid filter 'exited={value}'", hints=["exited takes an exit code"])
    return int(value)


def _check(key: str, values: Sequence[str], known: Sequence[str]) -> None:
    for value in values:
        if value not in known:
            what = f"invalid value for {key}" if key == "health" else "invalid filter 'status="
            text = f"{what} ({value})" if key == "health" else f"{what}{value}'"
            raise UsageError(text, hints=[f"one of {', '.join(known)}"])


def _labels(values: Sequence[str], *, has: bool) -> Test:
    return lambda config, _: all(has_label(config.labels, one) is has for one in values)


def has_label(labels: Mapping[str, str], label: str) -> bool:
    """Return whether *labels* have ``key``, or ``key=value``."""
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)


def _name(value: str) -> Test:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise UsageError(f"invalid filter 'name={value}': {error}") from error
    return lambda config, _: bool(pattern.search(config.name) or pattern.search(f"/{config.name}"))


def _volume(value: str) -> Test:
    return lambda config, _: any(
        value in (mount.target, mount.source if mount.kind != MountKind.TMPFS else "")
        for mount in config.mounts
    )


def _port(
    key: str, ports_of: Callable[[ContainerConfig], Collection[str]]
) -> Callable[[str], Test]:
    """Return the reader of a filter by ports, which only those that run have."""

    def read(value: str) -> Test:
        port, _, protocol = value.partition("/")
        first, dash, last = port.partition("-")
        if not (_is_port(first) and (_is_port(last) or not dash)):
            raise UsageError(f"invalid filter '{key}={value}'", hints=[f"{key}=80/tcp"])
        ports = {f"{n}/{protocol or 'tcp'}" for n in range(int(first), int(last or first) + 1)}
        return lambda config, state: state.lives and not ports.isdisjoint(ports_of(config))

    return read


def _published(config: ContainerConfig) -> set[str]:
    """Return the ports of the machine that it was given by number."""
    return {
        f"{number}/{one.protocol}"
        for one in config.ports
        if one.first
        for number in range(one.first, one.last + 1)
    }


def _is_port(text: str) -> bool:
    return text.isdecimal() and len(text) <= 5 and int(text) <= 65535


_ONE_OF: Mapping[str, Callable[[str], Test]] = {
    "expose": _port("expose", lambda config: config.exposed),
    "id": lambda value: lambda config, _: config.id.startswith(value),
    "isolation": lambda value: lambda _config, _state: value in ("", "default"),
    "name": _name,
    "network": lambda value: (
        lambda config, _: value in (config.network, *(one.network for one in config.networks))
    ),
    "publish": _port("publish", _published),
    "status": lambda value: lambda _, state: state.status == value,
    "until": lambda value: lambda _config, _state: True,
    "volume": _volume,
}
