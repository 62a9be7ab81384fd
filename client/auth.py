"""Lends the registry logins of this machine to a build server."""

from __future__ import annotations

from pybuild.buildkit.pb.filesync import (
    CredentialsRequest,
    CredentialsResponse,
    FetchTokenRequest,
    FetchTokenResponse,
)
from pybuild.model.reference import DOCKER_HUB
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from pybuild.registry.client.credentials import Credentials, TokenSource

_SERVICE = "/moby.filesync.v1.Auth/"
_HUB = "registry-1.docker.io"


def auth(credentials: Credentials) -> dict[str, Handler]:
    """Answer for *credentials*; tokens are fetched here where they can do that."""

    async def find(data: bytes, call: IncomingCall) -> bytes:
        del call
        host = CredentialsRequest.FromString(data).Host
        credential = await credentials.find(_name(host))
        if credential is None:
            return CredentialsResponse().SerializeToString()
        if credential.identity_token:
            return CredentialsResponse(Secret=credential.identity_token).SerializeToString()
        answer = CredentialsResponse(Username=credential.username, Secret=credential.password)
        return answer.SerializeToString()

    async def fetch(data: bytes, call: IncomingCall) -> bytes:
        del call
        request = FetchTokenRequest.FromString(data)
        if not isinstance(credentials, TokenSource):
            raise RpcError(Code.UNIMPLEMENTED, "tokens are not fetched here")
        credential = await credentials.fetch_token(
            _name(request.Host), request.Realm, request.Service, list(request.Scopes)
        )
        if credential is None:
            raise RpcError(Code.NOT_FOUND, f"no token for {request.Host}")
        answer = FetchTokenResponse(
            Token=credential.token, ExpiresIn=credential.expires_in, IssuedAt=credential.issued_at
        )
        return answer.SerializeToString()

    handlers = {_SERVICE + "Credentials": unary(find)}
    if isinstance(credentials, TokenSource):
        handlers[_SERVICE + "FetchToken"] = unary(fetch)
    return handlers


def _name(host: str) -> str:
    return DOCKER_HUB if host == _HUB else host
