"""Logins and rights of callers; answers 401 with the challenge that clients understand [REG-5]."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import field
from urllib.parse import parse_qs

from aiohttp import web

from pybuild.model.dataclass import dataclass
from pybuild.net.doorway import machine_of
from pybuild.registry.server.access import Access, Caller
from pybuild.registry.server.body import whole
from pybuild.registry.server.foreign import ForeignIssuer
from pybuild.registry.server.htpasswd import Htpasswd
from pybuild.registry.server.loginqueue import LoginQueueFull
from pybuild.registry.server.refusal import Refusal, RefusalCode
from pybuild.registry.server.routes import Permission, RegistryCall, RouteKind
from pybuild.registry.server.settings import ClientLimits
from pybuild.registry.server.tokens import BadToken, Issuer, granted, requested_grants

TOKEN_PATH = "/token"
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,300}")
_MOST_FORM = 64 << 10
_MOST_FIELDS = 200
_ACTIONS = {
    Permission.PULL: "pull",
    Permission.PUSH: "pull,push",
    Permission.DELETE: "delete",
}


@dataclass(frozen=True, slots=True)
class Guard:
    """The authentication of one server.

    Attributes:
        passwords: None: nobody can log in, so everybody is a stranger.
        issuer: gives and takes tokens; None: we make none.
        foreign: somebody else whose tokens are taken.
        service: the audience of the tokens.
        external_url: this server's address for clients, where requests do not show it.
        limits: for the sender of a form.
    """

    access: Access
    passwords: Htpasswd | None
    issuer: Issuer | None
    external_url: str
    now: Callable[[], float]
    foreign: ForeignIssuer | None = None
    service: str = ""
    limits: ClientLimits = field(default_factory=ClientLimits)

    @property
    def is_open(self) -> bool:
        """Whether there is no way to log in, so that everybody is a stranger."""
        return self.passwords is None and self.foreign is None

    async def admit(self, request: web.BaseRequest, call: RegistryCall) -> Caller:
        """Return the caller of *call*, if it has the right.

        Raises:
            Refusal: they may not; 401 where logging in, or another token, may help.
        """
        caller = await self._caller(request, call)
        if call.kind is RouteKind.BASE:
            # Clients learn here how to log in, so strangers are told even if there is no need.
            if not self.is_open and not caller.name and caller.granted is None:
                raise self._challenge(request, call, "log in to this registry")
            return caller
        if call.kind is RouteKind.CATALOG:
            allowed = caller.catalog and self.access.lists(caller.name)
        else:
            assert call.action is not None
            allowed = self.access.permits(caller, call.name, call.action)
        if allowed:
            return caller
        if not self.is_open and caller.granted is not None:
            raise self._challenge(
                request, call, "the token does not allow this", "insufficient_scope"
            )
        if not self.is_open and not caller.name:
            raise self._challenge(request, call, "log in to this registry")
        raise Refusal(
            403, RefusalCode.DENIED, f"{caller.name or 'anonymous'} may not {_in_words(call)}"
        )

    async def token(self, request: web.BaseRequest) -> web.Response:
        """Answer a request for a token: GET with Basic, or POST of a form [REG-6].

        Raises:
            Refusal: a wrong password, or a kind of grant that there is not.
        """
        assert self.issuer is not None
        if request.method == "POST":
            form = await self._form(request)
            if form.get("grant_type") != ["password"]:
                raise Refusal(400, RefusalCode.UNSUPPORTED, "only grant_type=password is known")
            user, password = ("".join(form.get(key, ())) for key in ("username", "password"))
            await self._check(request, user, password)
            scopes = form.get("scope", [])
        elif request.method == "GET":
            header = request.headers.get("Authorization", "")
            user = await self._basic(request, header) if header else ""
            scopes = request.query.getall("scope", [])
        else:
            raise Refusal(
                405, RefusalCode.UNSUPPORTED, "ask with GET or POST", {"Allow": "GET, POST"}
            )
        now = self.now()
        token = self.issuer.issue(user, granted(self.access, user, requested_grants(scopes)), now)
        answer = {"token": token, "access_token": token, **self.issuer.terms(now)}
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    async def _form(self, request: web.BaseRequest) -> dict[str, list[str]]:
        """Return the fields of a form, which nobody has logged in to send: it has to be short."""
        data = await whole(request, self.limits, _MOST_FORM, "the form")
        try:
            return parse_qs(data.decode(), max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise Refusal(400, RefusalCode.UNSUPPORTED, "the form cannot be read") from error

    async def _caller(self, request: web.BaseRequest, call: RegistryCall) -> Caller:
        header = request.headers.get("Authorization", "")
        scheme, _, value = header.partition(" ")
        if not header or self.is_open:
            return Caller()
        if scheme.lower() == "basic":
            return Caller(await self._basic(request, header, call))
        if scheme.lower() == "bearer" and self._takes_tokens:
            try:
                return self._bearer(value.strip())
            except BadToken as error:
                message = f"the token is not valid: {error}"
                raise self._challenge(request, call, message, "invalid_token") from error
        raise self._challenge(request, call, f'"{scheme[:30]}" is no way to log in here')

    @property
    def _takes_tokens(self) -> bool:
        return self.issuer is not None or self.foreign is not None

    def _bearer(self, token: str) -> Caller:
        error = BadToken("nobody makes tokens for this registry")
        if self.issuer is not None:
            try:
                return self.issuer.caller(token, self.now())
            except BadToken as refused:
                error = refused
        if self.foreign is not None:
            return self.foreign.caller(token, self.service, self.now())
        raise error

    async def _basic(
        self, request: web.BaseRequest, header: str, call: RegistryCall | None = None
    ) -> str:
        scheme, _, value = header.partition(" ")
        try:
            text = base64.b64decode(value.strip(), validate=True).decode("utf-8", "surrogateescape")
        except (binascii.Error, ValueError):
            text = ""
        user, colon, password = text.partition(":")
        if scheme.lower() != "basic" or not colon:
            raise self._challenge(request, call, "the Authorization header cannot be read")
        await self._check(request, user, password, call)
        return user

    async def _check(
        self, request: web.BaseRequest, user: str, password: str, call: RegistryCall | None = None
    ) -> None:
        own = request.transport and request.transport.get_extra_info("socket")
        try:
            is_right = self.passwords is not None and await self.passwords.check(
                user, password, machine_of(own) if own else ""
            )
        except LoginQueueFull:
            raise Refusal(
                429,
                RefusalCode.TOOMANYREQUESTS,
                "too many passwords wait to be checked",
                {"Retry-After": "2"},
            ) from None
        if not is_right or not user:
            raise self._challenge(request, call, "unknown user or wrong password")

    def _challenge(
        self, request: web.BaseRequest, call: RegistryCall | None, message: str, error: str = ""
    ) -> Refusal:
        if not self._takes_tokens or request.path == TOKEN_PATH:
            challenge = 'Basic realm="pybuild registry"'
        else:
            realm = self.foreign.url if self.foreign is not None else ""
            if not realm:
                if not self.external_url and not _HOST.fullmatch(request.host):
                    return Refusal(400, RefusalCode.UNSUPPORTED, "the Host header names no host")
                base = self.external_url.rstrip("/") or f"{request.scheme}://{request.host}"
                realm = base + TOKEN_PATH
            challenge = f'Bearer realm="{realm}",service="{self.service}"'
            scope = _scope(call)
            challenge += f',scope="{scope}"' if scope else ""
            challenge += f',error="{error}"' if error else ""
        return Refusal(401, RefusalCode.UNAUTHORIZED, message, {"WWW-Authenticate": challenge})


def _scope(call: RegistryCall | None) -> str:
    if call is not None and call.kind is RouteKind.CATALOG:
        return "registry:catalog:*"
    if call is None or call.action is None:
        return ""
    return f"repository:{call.name}:{_ACTIONS[call.action]}"


def _in_words(call: RegistryCall) -> str:
    return f"{call.action} {call.name}" if call.name else "list the repositories"
