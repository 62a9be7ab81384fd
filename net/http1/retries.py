"""Tries of one request: what is worth another one, and after which wait [REG-11, ADD-6]."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from pybuild.model.dataclass import dataclass
from pybuild.net.http1.client import Response
from pybuild.net.http1.faults import ConnectionLost
from pybuild.net.http1.patience import Patience

RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))

Describe = Callable[[Response], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """The bounds of waits and tries.

    Attributes:
        attempts: tries of one request; at a server that refuses one request in three, ten of them
            all fail once in 170,000 times, and take half a minute.
        backoff_s: wait before the second try; doubles, with jitter, up to *backoff_most_s*.
        retry_after_most_s: a server that asks for a longer wait than this is given up.
        connect_s: for one connection, TLS included.
        idle_s: without an answer, or without *idle_bytes* more of a body.
    """

    attempts: int = 10
    backoff_s: float = 0.25
    backoff_most_s: float = 8.0
    retry_after_most_s: float = 60.0
    connect_s: float = 20.0
    idle_s: float = 60.0
    idle_bytes: int = 16 << 10


class Retries:
    """Sends a request until it is answered, or given up.

    Args:
        describe: the text of an answer that was no success.
        is_final: whether another try is in vain, although the status is one that passes.
        patience: the hosts that fail, remembered over all requests.
        jitter: gives 0 ≤ x < 1.
    """

    def __init__(
        self,
        limits: HttpLimits,
        *,
        describe: Describe = lambda response: str(response.status),
        is_final: Callable[[Response], bool] = lambda response: False,
        patience: Patience | None = None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._describe = describe
        self._is_final = is_final
        self._patience = patience
        self._now = now
        self._sleep = sleep
        self._jitter = jitter

    def impatient(self, limits: HttpLimits, patience: Patience) -> Retries:
        """Return the same within other bounds, with *patience*."""
        return Retries(
            limits,
            describe=self._describe,
            is_final=self._is_final,
            patience=patience,
            now=self._now,
            sleep=self._sleep,
            jitter=self._jitter,
        )

    @property
    def idle_s(self) -> float | None:
        """How long the answer to a question may take, if less than usual."""
        return None if self._patience is None else self._patience.budget_s

    async def send(
        self,
        host: str,
        once: Callable[[], Awaitable[Response]],
        *,
        repeatable: bool = True,
        attempts: int | None = None,
    ) -> Response:
        """Return the answer of *once*, or of its last try, whatever its status.

        Args:
            repeatable: whether a try that may have had an effect may be repeated.

        Raises:
            ConnectionLost: all tries were in vain. What *once* raises besides.
        """
        patience, began = self._patience, 0.0
        attempts = self._limits.attempts if attempts is None else attempts
        for attempt in range(attempts):
            last = attempt + 1 == attempts
            if patience is not None:
                patience.check(host)
                began = patience.now()
            try:
                response = await once()
            except ConnectionLost as error:
                wait = self.backoff(attempt)
                if patience is not None:
                    patience.failed(host, began, error.message)
                    last = last or patience.is_over(host, wait)
                if last or attempt + 1 >= error.tries or not (repeatable or error.unsent):
                    raise
            else:
                is_good = response.status not in RETRIED
                wait = 0.0 if is_good else self._wait(response, attempt)
                if patience is not None and is_good:
                    patience.answered(host)
                elif patience is not None:
                    patience.failed(host, began, self._describe(response))
                    last = last or patience.is_over(host, wait)
                if is_good or last or not repeatable:
                    return response
                if self._is_final(response) or wait > self._limits.retry_after_most_s:
                    return response
                response.close()
            await self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    async def pause(self, attempt: int) -> None:
        """Wait as long as before the try that follows number *attempt*, counted from 0."""
        await self._sleep(self.backoff(attempt))

    def backoff(self, attempt: int) -> float:
        """Return the seconds to wait after try number *attempt*."""
        most = min(self._limits.backoff_s * 2.0 ** min(attempt, 16), self._limits.backoff_most_s)
        return most * (0.5 + self._jitter() / 2)

    def _wait(self, response: Response, attempt: int) -> float:
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return max(float(text[:9]), self.backoff(attempt))
        from email.utils import parsedate_to_datetime  # brings half of the email package

        try:
            moment = parsedate_to_datetime(text).timestamp() if text else 0.0
        except (ValueError, OverflowError):
            moment = 0.0
        return max(moment - self._now() if moment else 0.0, self.backoff(attempt))
