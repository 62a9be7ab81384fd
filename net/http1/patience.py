"""The time for hosts that fail, all requests together [REG-11].

Retries are bounded for each request. Where a build can do without the answer, such as a cache's,
ten requests must not each find out for themselves that a host is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pybuild.net.http1.faults import HttpFault

_REST_S = 60.0


class Patience:
    """The hosts that fail, remembered for everybody who shares it.

    Args:
        budget_s: a host that fails for so long, without one good answer, is given up...
        rest_s: ...for so long.
        now: seconds of a clock; the event loop's.
    """

    def __init__(
        self, budget_s: float, rest_s: float = _REST_S, now: Callable[[], float] | None = None
    ) -> None:
        self.budget_s = budget_s
        self._rest_s = rest_s
        self.now = now or _loop_time
        self._failing: dict[str, tuple[float, str]] = {}

    def check(self, host: str) -> None:
        """Refuse to ask a host that was given up.

        Raises:
            HttpFault: as it failed last.
        """
        since, message = self._failing.get(host, (0.0, ""))
        if not message or not self.is_over(host):
            return
        if self.now() - since > self.budget_s + self._rest_s:
            del self._failing[host]
            return
        raise HttpFault(f"{message}: not asked again for a while")

    def failed(self, host: str, began: float, message: str) -> None:
        """Note a try that *began* then and failed."""
        since, _ = self._failing.get(host, (began, ""))
        self._failing[host] = since, message

    def answered(self, host: str) -> None:
        """Note that all is well."""
        self._failing.pop(host, None)

    def is_over(self, host: str, wait_s: float = 0.0) -> bool:
        """Return whether the host may not be waited for, after a pause of *wait_s* or now."""
        known = self._failing.get(host)
        return known is not None and self.now() + wait_s - known[0] >= self.budget_s


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
