"""Verdicts of a client's policies about sources, asked for one at a time [POL-1].

docker buildx has policies in a language of its own, which it alone can run. It may want to know more of
a source before it decides, and is told what can be found out without fetching it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from enum import IntEnum

from google.protobuf.message import DecodeError

from pybuild.buildkit.llb.write import platform_message
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import policysession as pb
from pybuild.buildkit.pb.ops import SourceOp
from pybuild.buildkit.session.failures import failed
from pybuild.daemon.session.sessions import Session
from pybuild.model.errors import PybuildError, UserError
from pybuild.model.policy import PolicySource, Undecided
from pybuild.net.grpc.status import RpcError

METHOD = "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy"
_TIMEOUT_S = 60.0
_MOST_QUESTIONS = 10
# With each the reading of a Dockerfile begins again; nobody means to build of so many.
MOST_SOURCES = 1000
MOST_REQUESTS = 100_000
"""Where steps have a proxy, whose requests are sources, too."""

LookUp = Callable[[gateway.ResolveSourceMetaRequest], Awaitable[gateway.ResolveSourceMetaResponse]]
"""Finds the facts of a source, whatever policies say."""


class _Action(IntEnum):
    ALLOW = 0
    DENY = 1
    CONVERT = 2


class SourceRefused(UserError):
    """The client's policies do not let a source be used.

    Attributes:
        reasons: in the policy's words.
    """

    def __init__(self, source: PolicySource, action: str, reasons: tuple[str, ...] = ()) -> None:
        super().__init__(
            f'source "{source.identifier}" not allowed by policy: action {action}', hints=reasons
        )
        self.reasons = reasons


class SessionVerdicts:
    """The verdicts of one session: `judge` knows those that `decide` has got.

    Args:
        most: so many sources can be asked about.
    """

    def __init__(self, session: Session, most: int = MOST_SOURCES) -> None:
        self._session = session
        self._most = most
        self._known: dict[PolicySource, PolicySource | PybuildError] = {}
        self._asking: dict[PolicySource, asyncio.Task[None]] = {}

    def judge(self, source: PolicySource) -> PolicySource:
        """Return the source that takes the place of *source*, or itself.

        Raises:
            Undecided: nobody has asked. UserError: it is refused.
        """
        verdict = self._known.get(source)
        if verdict is None:
            raise Undecided(source)
        if isinstance(verdict, PolicySource):
            return verdict
        raise verdict

    async def decide(self, source: PolicySource, look_up: LookUp) -> None:
        """Ask the client about *source*, once whoever wants to know.

        Raises:
            UserError: it has no answer, or has been asked too much. Cancelled: it has gone.
        """
        if source in self._known:
            return
        task = self._asking.get(source)
        if task is None or task.cancelled():
            if len(self._asking) >= self._most:
                raise UserError(f"policies of a client decide about {self._most} sources at most")
            task = self._asking[source] = asyncio.create_task(self._decide(source, look_up))
            # Whoever waits for it may be gone when it fails.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(task)

    async def _decide(self, source: PolicySource, look_up: LookUp) -> None:
        try:
            self._known[source] = await self._ask(source, look_up)
        except SourceRefused as refused:
            self._known[source] = refused

    async def close(self) -> None:
        """Ask nothing any more; idempotent."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def _ask(self, source: PolicySource, look_up: LookUp) -> PolicySource:
        doing = f"ask the client's policies about {source.identifier}"
        op = SourceOp(identifier=source.identifier, attrs=dict(source.attrs))
        request = pb.CheckPolicyRequest(Source=gateway.ResolveSourceMetaResponse(Source=op))
        if source.platform is not None:
            request.Platform.CopyFrom(platform_message(source.platform))
        for _ in range(_MOST_QUESTIONS):
            try:
                data = await self._session.unary(
                    METHOD, request.SerializeToString(), timeout=_TIMEOUT_S
                )
                answer = pb.CheckPolicyResponse.FromString(data)
            except RpcError as error:
                raise failed(doing, error) from error
            except DecodeError as error:
                raise UserError(f"{doing}: the answer cannot be read") from error
            if answer.HasField("decision"):
                verdict = _verdict(source, answer.decision)
                if verdict != source or answer.decision.action == _Action.ALLOW:
                    return verdict
                continue  # replaced by itself, which is to be judged again
            if not answer.HasField("request"):
                raise UserError(f"{doing}: no decision in policy response")
            if answer.request.Source != op:
                raise UserError(f"{doing}: policy requested different source")
            request.Source.CopyFrom(await look_up(answer.request))
        raise UserError(f"{doing}: too many policy requests")


def _verdict(source: PolicySource, decision: pb.DecisionResponse) -> PolicySource:
    match decision.action:
        case _Action.ALLOW:
            return source
        case _Action.CONVERT:
            if not decision.HasField("update"):
                raise UserError("convert action requires updated source")
            update = decision.update
            return replace(source, identifier=update.identifier, attrs=dict(update.attrs))
        case other:
            name = "DENY" if other == _Action.DENY else str(other)
            reasons = tuple(one.message for one in decision.denyMessages)
            raise SourceRefused(source, name, reasons)
