"""Registry logins that the client has [REG-3]: asked for when a registry asks us.

Where a registry wants a token, the client fetches it, so that its password never leaves it.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from pybuild.buildkit.pb.filesync import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
)
from pybuild.daemon.session.sessions import Session
from pybuild.model.reference import DOCKER_HUB
from pybuild.net.grpc.status import Code, RpcError
from pybuild.registry.client.credentials import Credential, FetchedToken

CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
FETCH_TOKEN = "/moby.filesync.v1.Auth/FetchToken"
_HUB = "registry-1.docker.io"
_CLIENT_ID = "buildkit-client"
_TIMEOUT_S = 60.0


class SessionCredentials:
    """`registry.client.credentials.Credentials` and `TokenSource` of one client."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._problems: list[str] = []

    @property
    def problems(self) -> Sequence[str]:
        return tuple(self._problems)

    async def find(self, host: str, path: str = "") -> Credential | None:
        request = CredentialsRequest(Host=_name(host))
        data = await self._ask(CREDENTIALS, request.SerializeToString(), host)
        if data is None:
            return None
        try:
            answer = CredentialsResponse.FromString(data)
        except DecodeError:
            self._note(f"the client's credentials for {host} cannot be read")
            return None
        if not answer.Secret:
            return None
        if not answer.Username:
            return Credential(identity_token=answer.Secret)
        return Credential(username=answer.Username, password=answer.Secret)

    async def fetch_token(
        self, host: str, realm: str, service: str, scopes: Sequence[str]
    ) -> FetchedToken | None:
        """Let the client fetch a token; None when it cannot."""
        request = FetchTokenRequest(
            ClientID=_CLIENT_ID, Host=_name(host), Realm=realm, Service=service, Scopes=scopes
        )
        data = await self._ask(FETCH_TOKEN, request.SerializeToString(), host)
        if data is None:
            return None
        try:
            answer = FetchTokenResponse.FromString(data)
        except DecodeError:
            self._note(f"the client's token for {host} cannot be read")
            return None
        if not answer.Token:
            return None
        return FetchedToken(
            token=answer.Token, expires_in=answer.ExpiresIn, issued_at=answer.IssuedAt
        )

    async def _ask(self, method: str, request: bytes, host: str) -> bytes | None:
        if not self._session.offers(method):
            return None
        try:
            return await self._session.unary(method, request, timeout=_TIMEOUT_S)
        except RpcError as error:
            if error.code not in (Code.UNIMPLEMENTED, Code.NOT_FOUND):
                self._note(f"the client's credentials for {host}: {error.message}")
            return None

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)


def _name(host: str) -> str:
    return _HUB if host == DOCKER_HUB else host
