"""Logins at registries: the files and helper programs of docker and podman [REG-3, REG-4].

Secrets never enter a message or a repr. A helper that is missing or a file that cannot be read
does not fail a pull that may need no login: it is noted in `DockerCredentials.problems`, and
becomes a hint once a registry does refuse us.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, cast, runtime_checkable

from pybuild.cache.disk.ownership import others_write
from pybuild.model.dataclass import dataclass
from pybuild.model.reference import DOCKER_HUB
from pybuild.registry.client.helpers import is_helper_name, run_helper

HUB_KEY = "https://index.docker.io/v1/"
_FILE_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Credential:
    """A login at a registry; empty fields are absent.

    Attributes:
        identity_token: an OAuth refresh token; takes the place of the password.
        registry_token: a bearer token to be used as it is.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)


class Credentials(Protocol):
    """Finds credentials when a registry asks for them."""

    @property
    def problems(self) -> Sequence[str]:
        """The files and helpers that could not be read so far, each a line for people."""
        ...

    async def find(self, host: str, path: str = "") -> Credential | None:
        """Return the login for *host* (as references name it) and a repository *path*."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedToken:
    """A bearer token that somebody else got for us.

    Attributes:
        expires_in: seconds; 0 if not told. issued_at: since the epoch; 0 if not told.
    """

    token: str = field(repr=False)
    expires_in: int = 0
    issued_at: int = 0


@runtime_checkable
class TokenSource(Protocol):
    """Credentials that can also fetch tokens themselves, so that no password need be told."""

    async def fetch_token(
        self, host: str, realm: str, service: str, scopes: Sequence[str]
    ) -> FetchedToken | None:
        """Return a token for *scopes* from *realm*; None when it cannot, and we have to."""
        ...


class NoCredentials:
    """Anonymous everywhere."""

    problems: Sequence[str] = ()

    async def find(self, host: str, path: str = "") -> Credential | None:
        return None


class StaticCredentials:
    """Given by the caller, by host."""

    problems: Sequence[str] = ()

    def __init__(self, by_host: Mapping[str, Credential]) -> None:
        self._by_host = dict(by_host)

    async def find(self, host: str, path: str = "") -> Credential | None:
        return self._by_host.get(host)


class DockerCredentials:
    """Reads config.json and auth.json when they are new or changed; asks helpers at each question."""

    def __init__(
        self,
        environ: Mapping[str, str],
        given: Mapping[str, Credential] | None = None,
        *,
        helper_timeout_s: float = 60.0,
    ) -> None:
        """*environ* names the files, and is the environment of helper programs; *given*, by host, wins."""
        self._given = given or {}
        self._environ = dict(environ)
        self._timeout_s = helper_timeout_s
        self._files: list[tuple[str, dict[str, Any]]] | None = None
        self._stamps: list[tuple[int, int, int] | None] = []
        self._problems: list[str] = []

    @property
    def problems(self) -> Sequence[str]:
        return tuple(self._problems)

    async def find(self, host: str, path: str = "") -> Credential | None:
        if host in self._given:
            return self._given[host]
        # A server outlives many a login: a file that has changed is read again.
        stamps = _stamps(self._environ)
        if self._files is None or stamps != self._stamps:
            self._files, self._stamps = await asyncio.to_thread(self._load), stamps
        for name, config in self._files:
            credential = await self._find_in(name, config, host, path)
            if credential is not None:
                return credential
        return None

    def _load(self) -> list[tuple[str, dict[str, Any]]]:
        files: list[tuple[str, dict[str, Any]]] = []
        for name in credential_files(self._environ):
            try:
                with open(name, "rb") as file:
                    if others_write(os.fstat(file.fileno())):
                        # It says where secrets go, and which programs are asked for them.
                        self._note(f"{name}: not read, as other users can change it")
                        continue
                    value = json.loads(file.read(_FILE_LIMIT_BYTES))
                if not isinstance(value, dict):
                    raise ValueError("not an object")
            except FileNotFoundError:
                continue
            except OSError as error:
                self._note(f"{name}: {error.strerror}")
            except json.JSONDecodeError as error:  # its text quotes nothing of the file
                self._note(f"{name}: not JSON: line {error.lineno} column {error.colno}")
            except (ValueError, RecursionError):
                self._note(f"{name}: not a JSON object")
            else:
                files.append((name, cast("dict[str, Any]", value)))
        return files

    async def _find_in(
        self, name: str, config: dict[str, Any], host: str, path: str
    ) -> Credential | None:
        helpers = config.get("credHelpers")
        helper = helpers.get(host) if isinstance(helpers, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if not helper:
            helper = config.get("credsStore")
        if isinstance(helper, str) and helper:  # pyright: ignore[reportUnknownArgumentType]
            credential = await self._ask(helper, host)
            if credential is not None:
                return credential
        auths = config.get("auths")
        if not isinstance(auths, dict):
            return None
        entry = _entry_for(auths, host, path)  # pyright: ignore[reportUnknownArgumentType]
        if entry is None:
            return None
        try:
            return _from_entry(entry)
        except ValueError:
            self._note(f"{name}: the auth of {host} cannot be decoded")
            return None

    async def _ask(self, helper: str, host: str) -> Credential | None:
        """Ask a helper by the host's usual name, then by the name in its own list."""
        server = HUB_KEY if host == DOCKER_HUB else host
        answer = await self._run(helper, "get", server)
        if answer is None:
            listed = await self._run(helper, "list", "")
            names = _names(host)
            other = next((n for n in names if n in (listed or {}) and n != server), None)
            answer = await self._run(helper, "get", other) if other else None
        if answer is None:
            return None
        username, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(username, str) or not isinstance(secret, str):
            self._note(f"docker-credential-{helper}: its answer cannot be read")
            return None
        if not secret:
            return None
        if username == "<token>":
            return Credential(identity_token=secret)
        return Credential(username=username, password=secret)

    async def _run(self, helper: str, action: str, request: str) -> dict[str, Any] | None:
        """Have a helper do something; None when it does not know, or cannot."""
        program = f"docker-credential-{helper}"
        if not is_helper_name(helper):
            from pybuild.net.http1.faults import printable

            self._note(f"credential helper {printable(helper)!r}: not a program name")
            return None
        try:
            status, output = await run_helper(
                helper, action, request.encode(), self._environ, self._timeout_s
            )
        except FileNotFoundError:
            self._note(f"{program}: not found on PATH")
            return None
        except TimeoutError:
            self._note(f"{program}: no answer within {self._timeout_s:g} s")
            return None
        except OSError as error:
            self._note(f"{program}: {error.strerror}")
            return None
        if status != 0:
            # The words are the protocol's: there is no code for "I know nothing" [REG-4]. Some
            # helpers, ECR's for one, cannot list.
            if action == "get" and b"credentials not found" not in output:
                self._note(f"{program}: exit status {status}")
            return None
        try:
            answer = json.loads(output)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            if action == "get":
                self._note(f"{program}: its answer cannot be read")
            return None
        return cast("dict[str, Any]", answer)

    def _note(self, problem: str) -> None:
        if problem not in self._problems:
            self._problems.append(problem)


def credential_files(environ: Mapping[str, str]) -> list[str]:
    """The files that may hold logins, the most specific first; they need not exist."""
    home = environ.get("HOME", "")
    docker = environ.get("DOCKER_CONFIG") or (os.path.join(home, ".docker") if home else "")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    config = environ.get("XDG_CONFIG_HOME") or (os.path.join(home, ".config") if home else "")
    files = [environ.get("REGISTRY_AUTH_FILE", "")]
    files += [os.path.join(docker, "config.json")] if docker else []
    files += [os.path.join(top, "containers", "auth.json") for top in (runtime, config) if top]
    return [file for file in dict.fromkeys(files) if file]


def _entry_for(auths: dict[Any, Any], host: str, path: str) -> dict[Any, Any] | None:
    """The entry for the longest matching ``host/path``, as podman keeps them, or for the host."""
    keys: list[str] = []
    parts = path.split("/") if path else []
    keys += ["/".join([host, *parts[:count]]) for count in range(len(parts), 0, -1)]
    for key in [*keys, *_names(host)]:
        entry = auths.get(key)
        if isinstance(entry, dict) and entry:  # a helper leaves an empty one as a mark
            return entry  # pyright: ignore[reportUnknownVariableType]
    return None


def _names(host: str) -> list[str]:
    """The names under which logins for *host* are kept, the usual one first."""
    names: list[str] = []
    hosts = [host]
    if host == DOCKER_HUB:
        hosts = [HUB_KEY, "index.docker.io", DOCKER_HUB, "registry-1.docker.io"]
    for name in hosts:
        names += [name]
        if not name.startswith("https://"):
            names += [f"{scheme}://{name}{end}" for scheme in ("https", "http") for end in _ENDS]
    return names


def _stamps(environ: Mapping[str, str]) -> list[tuple[int, int, int] | None]:
    """The state of the files, from which a change is seen."""
    stamps: list[tuple[int, int, int] | None] = []
    for name in credential_files(environ):
        try:
            status = os.stat(name)
            stamps.append((status.st_ino, status.st_mtime_ns, status.st_size))
        except OSError:
            stamps.append(None)
    return stamps


_ENDS = ("", "/", "/v1/", "/v2/")


def _from_entry(entry: dict[Any, Any]) -> Credential | None:
    """Raises ValueError when ``auth`` is not base64 of ``user:password``."""

    def text(key: str) -> str:
        value = entry.get(key)
        return value if isinstance(value, str) else ""

    username, password = text("username"), text("password")
    if text("auth"):
        try:
            decoded = base64.b64decode(text("auth"), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise ValueError("auth is not base64") from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise ValueError("auth has no colon")
        password = password.rstrip("\x00")
    credential = Credential(username, password, text("identitytoken"), text("registrytoken"))
    known = credential.password or credential.identity_token or credential.registry_token
    return credential if known else None
