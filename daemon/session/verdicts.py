"""Verdicts of a client's policies about sources, asked for one at a time [POL-1].

docker buildx has policies in a language of its own, which it alone can run. It may want to know more of
a source before it decides, and is told what can be found out without fetching it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import IntEnum

from google.protobuf.message import DecodeError

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
    """The verdicts of one session: `judge` knows those that `decide` has got."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: list[tuple[PolicySource, PolicySource | PybuildError]] = []

    def judge(self, source: PolicySource) -> PolicySource:
        """Return the source that takes the place of *source*, or itself.

        Raises:
            Undecided: nobody has asked. UserError: it is refused.
        """
        for known, verdict in self._known:
            if known == source:
                if isinstance(verdict, PolicySource):
                    return verdict
                raise verdict
        raise Undecided(source)

    async def decide(self, source: PolicySource, look_up: LookUp) -> None:
        """Ask the client about *source*.

        Raises:
            UserError: it has no answer, or has been asked too much. Cancelled: it has gone.
        """
        if len(self._known) >= MOST_SOURCES:
            raise UserError(f"policies of a client decide about {MOST_SOURCES} sources at most")
        try:
            verdict: PolicySource | PybuildError = await self._ask(source, look_up)
        except SourceRefused as refused:
            verdict = refused
        self._known.append((source, verdict))

    async def _ask(self, source: PolicySource, look_up: LookUp) -> PolicySource:
        doing = f"ask the client's policies about {source.identifier}"
        op = SourceOp(identifier=source.identifier, attrs=dict(source.attrs))
        request = pb.CheckPolicyRequest(Source=gateway.ResolveSourceMetaResponse(Source=op))
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
                return _verdict(source, answer.decision)
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
            return PolicySource(decision.update.identifier, dict(decision.update.attrs))
        case other:
            name = "DENY" if other == _Action.DENY else str(other)
            reasons = tuple(one.message for one in decision.denyMessages)
            raise SourceRefused(source, name, reasons)
