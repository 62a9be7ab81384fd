"""Doubles of the doors of large registries, in front of a real registry of ours [REG-5, REG-6].

Each answers as its documentation, or what its users report of it, says: the challenge, the token
endpoint with its forms and refusals, and where blobs are redirected to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

from tests.registry.server.serving import served
from tests.registry.servers import serve

ZEROS = "00000000-0000-0000-0000-000000000000"


def denied(status: int, code: str, message: str, **headers: str) -> web.Response:
    body = {"errors": [{"code": code, "message": message}]}
    return web.json_response(body, status=status, headers=headers)


def basic(request: web.Request) -> tuple[str, str]:
    """User and password of a request; empty without."""
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind != "Basic":
        return "", ""
    user, _, password = base64.b64decode(text).decode().partition(":")
    return user, password


@dataclass
class Door:
    """A vendor's gate before a registry; subclasses know one vendor's rules.

    Attributes:
        host: of the door, once it is open.
        asked: what its token endpoint was asked: method, values, user.
        refused: how many registry requests it did not let through.
        leaks: what came to the blob storage with somebody's name on it.
    """

    host: str = ""
    asked: list[tuple[str, dict[str, list[str]], str]] = field(
        default_factory=list[tuple[str, dict[str, list[str]], str]]
    )
    refused: int = 0
    leaks: list[str] = field(default_factory=list[str])

    def guard(self, request: web.Request) -> web.Response | None:
        """Return the refusal of a registry request; None lets it in."""
        raise NotImplementedError

    async def token(self, request: web.Request) -> web.Response | None:
        """Answer what is meant for the token endpoint; None: something else is meant."""
        return None

    @asynccontextmanager
    async def open(self, root: Path) -> AsyncGenerator[str]:
        """Serve a registry on a store at *root* behind this door; yields its host."""
        async with (
            served(root) as inside,
            aiohttp.ClientSession(auto_decompress=False) as session,
            serve(self._storage(session, inside.host)) as storage,
        ):

            async def handler(request: web.Request) -> web.StreamResponse:
                answer = await self.token(request)
                if answer is None:
                    answer = self.guard(request)
                    self.refused += answer is not None
                if answer is not None:
                    return answer
                if request.method == "GET" and "/blobs/sha256" in request.path:
                    # Another host, as a bucket behind its signed URL is one.
                    place = f"http://{storage.replace('127.0.0.1', 'localhost')}{request.path}"
                    return web.Response(status=307, headers={"Location": f"{place}?sig=x"})
                return await _passed_on(session, inside.host, request)

            async with serve(handler) as host:
                self.host = host
                yield host

    def _storage(self, session: aiohttp.ClientSession, inside: str) -> Callable[[web.Request], Any]:
        async def handler(request: web.Request) -> web.StreamResponse:
            if "Authorization" in request.headers:
                self.leaks.append(request.path)
                return web.Response(status=400, text="InvalidArgument: only one auth mechanism")
            return await _passed_on(session, inside, request)

        return handler


async def _passed_on(
    session: aiohttp.ClientSession, inside: str, request: web.Request
) -> web.StreamResponse:
    drop = ("Host", "Content-Length", "Transfer-Encoding", "Authorization", "Connection", "Date")
    async with session.request(
        request.method,
        f"http://{inside}{request.path_qs}",
        headers={key: value for key, value in request.headers.items() if key not in drop},
        data=await request.read(),
        allow_redirects=False,
    ) as answer:
        kept = {key: value for key, value in answer.headers.items() if key not in drop[2:]}
        if request.method != "HEAD":
            return web.Response(status=answer.status, headers=kept, body=await answer.read())
        length = answer.headers.get("Content-Length", "0")
        return web.Response(status=answer.status, headers={**kept, "Content-Length": length})


@dataclass
class Ecr(Door):
    """Amazon: Basic with the user AWS and a password of twelve hours; there are no tokens.

    Source: Amazon ECR user guide, "Private registry authentication".
    """

    passwords: dict[str, bool] = field(default_factory=dict[str, bool])
    """Whether each of the passwords is still good."""

    def guard(self, request: web.Request) -> web.Response | None:
        user, password = basic(request)
        if user != "AWS" or password not in self.passwords:
            challenge = f'Basic realm="https://{self.host}/",service="ecr.amazonaws.com"'
            headers = {"WWW-Authenticate": challenge}
            return web.Response(status=401, text="Not Authorized\n", headers=headers)
        if not self.passwords[password]:
            message = "Your authorization token has expired. Reauthenticate and try again."
            return denied(403, "DENIED", message)
        return None


@dataclass
class Bearer(Door):
    """One whose token endpoint makes bearer tokens."""

    realm = "/token"
    tokens: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    issued: int = 0

    def challenge(self, request: web.Request) -> str:
        return f'Bearer realm="http://{self.host}{self.realm}",service="{self.service}"'

    @property
    def service(self) -> str:
        return self.host

    def guard(self, request: web.Request) -> web.Response | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        scopes = self.tokens.get(token)
        if scopes is None or not all(scope in scopes for scope in needed(request)):
            headers = {"WWW-Authenticate": self.challenge(request)}
            return denied(401, "UNAUTHORIZED", "authentication required", **headers)
        return None

    def issue(self, scopes: list[str]) -> str:
        self.issued += 1
        token = f"token-{self.issued}"
        self.tokens[token] = [grant for scope in scopes for grant in grants(scope)]
        return token


def grants(scope: str) -> list[str]:
    """``repository:a:pull,push`` as ``repository:a:pull`` and ``repository:a:push``."""
    resource, _, actions = scope.rpartition(":")
    return [f"{resource}:{action}" for action in actions.split(",")]


def needed(request: web.Request) -> list[str]:
    """Return the permissions that a request needs."""
    parts = request.path.removeprefix("/v2/").split("/")
    at = next((i for i, p in enumerate(parts) if p in ("blobs", "manifests", "tags")), 0)
    if not at:
        return []
    action = "pull" if request.method in ("GET", "HEAD") else "push"
    return [f"repository:{'/'.join(parts[:at])}:{action}"]


@dataclass
class Google(Bearer):
    """Artifact Registry and gcr.io: GET with Basic; who one is says the user name.

    Source: Artifact Registry documentation, "Configure authentication to Artifact Registry for Docker".
    """

    realm = "/v2/token"
    keys: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    access_tokens: list[str] = field(default_factory=list[str])

    async def token(self, request: web.Request) -> web.Response | None:
        if request.path != self.realm:
            return None
        user, password = basic(request)
        self.asked.append((request.method, parse_qs(request.query_string), user))
        if request.method != "GET":
            return web.Response(status=404, text="<!DOCTYPE html><title>Error 404</title>")
        match user:
            case "_json_key":
                known = json.loads(password) in self.keys
            case "_json_key_base64":
                known = json.loads(base64.b64decode(password)) in self.keys
            case "oauth2accesstoken" | "_dcgcloud_token":
                known = password in self.access_tokens
            case _:
                known = False
        if not known:
            return denied(403, "DENIED", "Unauthenticated request. Unauthenticated requests do not")
        token = self.issue(request.query.getall("scope", []))
        return web.json_response({"token": token, "expires_in": 43200})


@dataclass
class Azure(Bearer):
    """ACR: an Entra token is exchanged for a refresh token, that for access tokens.

    Source: Azure/acr, "Azure Container Registry integration with Azure Active Directory".
    """

    realm = "/oauth2/token"
    refresh_tokens: list[str] = field(default_factory=list[str])

    def challenge(self, request: web.Request) -> str:
        scope = ",".join(scope for scope in needed(request)) or "registry:catalog:*"
        return f'{super().challenge(request)},scope="{scope}"'

    async def token(self, request: web.Request) -> web.Response | None:
        if request.path == "/oauth2/exchange":
            values = parse_qs((await request.read()).decode())
            if values["grant_type"] != ["access_token"] or values["access_token"] != ["entra"]:
                return denied(401, "UNAUTHORIZED", "authentication required")
            self.refresh_tokens.append(f"refresh-{len(self.refresh_tokens)}")
            return web.json_response({"refresh_token": self.refresh_tokens[-1]})
        if request.path != self.realm:
            return None
        if request.method == "POST":
            values = parse_qs((await request.read()).decode())
            user = values.get("username", [""])[0]
            secret = values.get("refresh_token", values.get("password", [""]))[0]
            zeros = values["grant_type"] == ["refresh_token"] or user == ZEROS
        else:
            values = parse_qs(request.query_string)
            user, secret = basic(request)
            zeros = user == ZEROS
        self.asked.append((request.method, values, user))
        if not zeros or secret not in self.refresh_tokens or values["service"] != [self.service]:
            return denied(401, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr")
        scopes = " ".join(values["scope"]).split()
        return web.json_response({"access_token": self.issue(scopes)})


@dataclass
class GitHub(Bearer):
    """ghcr.io: tokens by GET; at the root its challenge has an example for a scope.

    Anonymous clients get tokens for what is public. Who asks for more than may be is refused the
    token. Source: what issues of its clients report of its answers.
    """

    accounts: dict[str, str] = field(default_factory=dict[str, str])
    owned: str = "repository:acme/"

    def challenge(self, request: web.Request) -> str:
        scope = (needed(request) or ["repository:user/image:pull"])[0]
        return f'{super().challenge(request)},scope="{scope}"'

    async def token(self, request: web.Request) -> web.Response | None:
        if request.path != self.realm:
            return None
        user, password = basic(request)
        self.asked.append((request.method, parse_qs(request.query_string), user))
        if request.method != "GET":
            return web.Response(status=405)
        if user and self.accounts.get(user) != password:
            return denied(403, "DENIED", "denied")
        scopes = [g for scope in request.query.getall("scope", []) for g in grants(scope)]
        may = [s.startswith(self.owned) and (bool(user) or s.endswith(":pull")) for s in scopes]
        if not all(may):
            return denied(403, "DENIED", "requested access to the resource is denied")
        return web.json_response({"token": self.issue(scopes)})
