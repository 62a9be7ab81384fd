"""Small servers on loopback, inside the test's own event loop."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import aiohttp
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serve(handler: Handler) -> AsyncGenerator[str, None]:
    """Run *handler* for every request; yields ``127.0.0.1:<port>``."""
    application = web.Application(client_max_size=1 << 30)
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def proxy_to(
    host: str, change: Callable[[web.Request, bytes], Awaitable[web.StreamResponse | None]]
) -> AsyncGenerator[str, None]:
    """Stand before the registry at *host*; *change* may answer in its place.

    *change* gets the request and the body of the registry's answer.
    """
    async with aiohttp.ClientSession(auto_decompress=False) as session:

        async def handler(request: web.Request) -> web.StreamResponse:
            headers = {
                key: value
                for key, value in request.headers.items()
                if key not in ("Host", "Content-Length", "Transfer-Encoding")
            }
            async with session.request(
                request.method,
                f"http://{host}{request.raw_path}",
                headers=headers,
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                changed = await change(request, body)
                if changed is not None:
                    return changed
                kept = {
                    key: value
                    for key, value in answer.headers.items()
                    if key not in ("Transfer-Encoding", "Connection", "Date")
                }
                response = web.Response(status=answer.status, headers=kept)
                if request.method != "HEAD":
                    response.body = body
                return response

        async with serve(handler) as name:
            yield name


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, timeout=30, check=True
    )
    return done.stdout


@dataclass
class TokenServer:
    """A token server of the kind registries trust [REG-5]; keeps what it was asked.

    Attributes:
        users: passwords by user; others get tokens for pulling only.
        posts: whether it knows the newer POST form.
        lifetime_s: of the tokens, as it says.
    """

    directory: Path
    users: dict[str, str] = field(default_factory=dict[str, str])
    refresh_tokens: dict[str, str] = field(default_factory=dict[str, str])
    posts: bool = True
    lifetime_s: int = 300
    asked: list[tuple[str, dict[str, list[str]], str]] = field(
        default_factory=list[tuple[str, dict[str, list[str]], str]]
    )

    service = "registry.test"
    issuer = "issuer.test"

    def __post_init__(self) -> None:
        self.key = self.directory / "token.key"
        self.certificate = self.directory / "token.crt"
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=token", "-keyout", str(self.key), "-out", str(self.certificate)),
        )
        der = openssl("x509", "-in", str(self.certificate), "-outform", "DER")
        self._x5c = base64.b64encode(der).decode()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        authorization = request.headers.get("Authorization", "")
        if request.method == "POST":
            values = parse_qs((await request.read()).decode(), keep_blank_values=True)
        else:
            values = parse_qs(request.query_string, keep_blank_values=True)
        self.asked.append((request.method, values, authorization))
        if request.method == "POST" and not self.posts:
            return web.Response(status=405)
        user = self._user(request.method, values, authorization)
        if user is None:
            errors = [{"code": "UNAUTHORIZED", "message": "incorrect username or password"}]
            return web.json_response({"errors": errors}, status=401)
        access: list[dict[str, object]] = []
        for scope in " ".join(values.get("scope", [])).split():
            kind, name, actions = scope.split(":")
            wanted = actions.split(",")
            allowed = [a for a in wanted if user or a == "pull"]
            access.append({"type": kind, "name": name, "actions": allowed})
        token = self.token(user, access)
        answer: dict[str, object] = {"expires_in": self.lifetime_s}
        answer["access_token" if request.method == "POST" else "token"] = token
        return web.json_response(answer)

    def _user(self, method: str, values: dict[str, list[str]], header: str) -> str | None:
        """The user, "" for anonymous, None for a wrong login."""
        if method == "POST":
            if values["grant_type"] == ["refresh_token"]:
                return self.refresh_tokens.get(values["refresh_token"][0])
            name, password = values["username"][0], values["password"][0]
        elif header.startswith("Basic "):
            name, _, password = base64.b64decode(header[6:]).decode().partition(":")
        else:
            return ""
        return name if self.users.get(name) == password else None

    def token(self, user: str, access: list[dict[str, object]]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": now + 3600,
            "nbf": now - 60,
            "iat": now,
            "jti": hashlib.sha256(json.dumps([now, len(self.asked), user]).encode()).hexdigest(),
            "access": access,
        }
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self._x5c]}
        text = f"{_encoded(json.dumps(header).encode())}.{_encoded(json.dumps(claims).encode())}"
        signature = openssl("dgst", "-sha256", "-sign", str(self.key), data=text.encode())
        return f"{text}.{_encoded(signature)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Authority:
    """An own certificate authority with one server certificate for 127.0.0.1."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def make(cls, directory: Path) -> Authority:
        ca, ca_key = directory / "ca.crt", directory / "ca.key"
        cert, key, request = directory / "s.crt", directory / "s.key", directory / "s.csr"
        new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl(
            *("req", "-x509", *new, "-days", "2", "-subj", "/CN=test-ca"),
            *(
                "-addext",
                "keyUsage=critical,keyCertSign,cRLSign",
            ),  # Python 3.13 wants it of whom it trusts
            *("-keyout", str(ca_key), "-out", str(ca)),
        )
        openssl(
            *("req", *new, "-subj", "/CN=127.0.0.1"),
            *("-keyout", str(key), "-out", str(request)),
        )
        names = directory / "names"
        names.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(ca), "-CAkey", str(ca_key)),
            *("-CAcreateserial", "-days", "2", "-extfile", str(names), "-out", str(cert)),
        )
        return cls(ca, cert, key)
