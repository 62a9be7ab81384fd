"""The processes of exec that this server knows; they are its own, and go with it [CTR-52]."""

from __future__ import annotations

import time
from dataclasses import field

from pybuild.containers.container import Container
from pybuild.containers.order import ExecOrder
from pybuild.daemon.rest.lines import MonitorLine
from pybuild.daemon.rest.refusal import ApiRefusal
from pybuild.model.dataclass import dataclass

_KEPT_S = 300.0
_MOST = 10_000


@dataclass(slots=True, kw_only=True)
class ExecProcess:
    """One of them.

    Attributes:
        stdout, stderr: the client wants them.
        keys, key_text: that detach, and as they were given.
        user: as it was given.
        begun: somebody starts it, or has.
        line: to its monitor, None until it is started.
        exit_code: None until it has ended.
    """

    id: str
    container: Container
    order: ExecOrder
    stdout: bool
    stderr: bool
    keys: bytes
    key_text: str
    user: str
    begun: bool = False
    line: MonitorLine | None = None
    exit_code: int | None = None
    made: float = field(default_factory=time.monotonic)

    def claim(self) -> bool:
        """Return whether the caller is to start it: nobody else is, or has."""
        is_first, self.begun = not self.begun, True
        return is_first

    @property
    def is_running(self) -> bool:
        return self.line is not None and self.exit_code is None

    @property
    def numbers(self) -> frozenset[int]:
        """The streams that the client wants; both where it did not say."""
        chosen = {number for number, is_meant in ((1, self.stdout), (2, self.stderr)) if is_meant}
        return frozenset(chosen or (1, 2))


class ExecProcesses:
    """All of them, by their ids."""

    def __init__(self) -> None:
        self._known: dict[str, ExecProcess] = {}

    def add(self, process: ExecProcess) -> None:
        """Keep one; those that ended a while ago, or were never started, go when there are many."""
        latest = time.monotonic() - _KEPT_S
        old = [id for id, one in self._known.items() if one.made < latest and not one.is_running]
        for id in old:
            if len(old) > _MOST or self._known[id].exit_code is not None:
                del self._known[id]
        self._known[process.id] = process

    def find(self, id: str) -> ExecProcess:
        """Return the process of that id.

        Raises:
            ApiRefusal: there is none.
        """
        try:
            return self._known[id]
        except KeyError:
            raise ApiRefusal(404, f"No such exec instance: {id[:100]}") from None

    def forget(self, container: str) -> None:
        """Let those of a container go that was removed."""
        self._known = {
            id: one for id, one in self._known.items() if one.container.config.id != container
        }

    def ids(self, container: str) -> list[str]:
        """Return the ids of those that run in a container."""
        return [
            id
            for id, one in self._known.items()
            if one.container.config.id == container and one.is_running
        ]
