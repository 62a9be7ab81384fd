"""The lines of the journal about one container [ENG-46, ENG-47].

For its monitor, which has the container's directory and no more: what it says is read from the record
there, as it is now, since a container that runs can be renamed.
"""

from __future__ import annotations

import os

from pybuild.cache.disk import journal
from pybuild.containers.order import CONFIG
from pybuild.model import lightjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_NONE: dict[str, str] = {}


class Actions:
    """The actions that a container has taken part in, or was the object of.

    Args:
        root: the store's directory; *home* is the container's, open.
    """

    def __init__(self, root: str, home: int) -> None:
        self._root = root
        self._home = home

    def note(self, action: str, more: Mapping[str, str] = _NONE) -> None:
        """Write down that *action* was done just now; *more* are attributes of it."""
        note(self._root, self.config(), action, more)

    def note_start(self) -> None:
        """Write down that it has been started, with its volumes."""
        config = self.config()
        for name, mount in _volumes(config):
            more = {"destination": mount["target"], "propagation": "", "driver": "local"}
            more |= {"container": config["id"], "read/write": _word(not mount["readonly"])}
            journal.note(self._root, journal.VOLUME, "mount", name, more)
        note(self._root, config, "start")

    def note_end(self, status: int, seconds: float, *, oom_killed: bool, stopped: bool) -> None:
        """Write down that a run has ended; *stopped*: by the command for that."""
        config = self.config()
        if oom_killed:
            note(self._root, config, "oom")
        more = {"exitCode": str(status), "execDuration": str(int(seconds))}
        note(self._root, config, "die", more)
        for name, _ in _volumes(config):
            more = {"container": config.get("id", ""), "driver": "local"}
            journal.note(self._root, journal.VOLUME, "unmount", name, more)
        if stopped:
            note(self._root, config, "stop")

    def config(self) -> dict[str, Any]:
        """Return the container's record as it is now; empty where it was removed."""
        try:
            fd = os.open(CONFIG, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=self._home)
            with open(fd, "rb") as file:
                known: dict[str, Any] = lightjson.loads(file.read())
        except (OSError, ValueError):
            return {}  # it was removed under us: there is nothing to say of it
        return known


def note(
    root: str, config: Mapping[str, Any], action: str, more: Mapping[str, str] = _NONE
) -> None:
    """Write down an action on the container of *config*, a mapping as its record has it."""
    if config:
        attributes = {**config["labels"], "image": config["image"], "name": config["name"], **more}
        journal.note(root, journal.CONTAINER, action, config["id"], attributes)


def _volumes(config: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    mounts: list[dict[str, Any]] = config.get("mounts") or []
    return [(one["source"], one) for one in mounts if one["kind"] == "volume"]


def _word(value: bool) -> str:
    return "true" if value else "false"
