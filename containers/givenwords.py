"""Words of ``run`` and ``create`` that are checked and kept as they are: streams, notes, and what is accepted alone."""

from __future__ import annotations

from pybuild.containers.order import LogConfig
from pybuild.model.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


_STREAMS = ("stdin", "stdout", "stderr")


def shown_alone(notes: Mapping[str, str], driver: str, *, trusts: bool) -> dict[str, Any]:
    """Return the fields of `ContainerConfig.shown`.

    Args:
        driver: of volumes; *trusts*: no signature is to be checked.

    Raises:
        UsageError: one says what cannot be had.
    """
    if not trusts:
        raise UsageError(
            "--disable-content-trust=false: nothing here checks signatures of that kind",
            hints=["name the image by its digest"],
        )
    if driver not in ("", "local"):
        raise UsageError(f'plugin "{driver}" not found', hints=["leave --volume-driver away"])
    shown = {"Annotations": dict(notes), "VolumeDriver": driver}
    return {"HostConfig": {name: value for name, value in shown.items() if value}}


def with_rotation(config: LogConfig) -> LogConfig:
    """Return the log as it is, which has several files only where one may be full.

    Raises:
        UsageError: it is to have several, each as long as it gets.
    """
    is_one = int(config.options.get("max-file", 1)) <= 1 or "max-size" in config.options
    if config.driver == "json-file" and not is_one:
        raise UsageError("max-file needs max-size: without it the log is one file")
    return config


def whole_seconds(text: str) -> float:
    """Read ``--stop-timeout``."""
    if not text.removeprefix("-").isdecimal():
        raise UsageError(f'invalid --stop-timeout "{text}": expected seconds')
    return float(text)


def followed_streams(words: Sequence[str], *, detached: bool) -> frozenset[str]:
    """Return the streams that whoever runs a container in front is attached to.

    Raises:
        UsageError: there is no such stream, or it is in the background.
    """
    given = [text.lower() for text in words]
    if given and detached:
        raise UsageError("conflicting options: cannot specify both --attach and --detach")
    for text in given:
        if text not in _STREAMS:
            raise UsageError(
                f'invalid argument "{text}" for "-a, --attach" flag: valid streams are STDIN, '
                "STDOUT and STDERR"
            )
    return frozenset(given or _STREAMS)
