"""Keeps logins where docker keeps them: with a helper program, or in config.json [REG-3, REG-4].

What else is in the file stays as it is. It is replaced as a whole, readable by its owner only.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from typing import Any, cast

from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.reference import DOCKER_HUB, Reference
from pybuild.registry.client.credentials import HUB_KEY, Credential
from pybuild.registry.client.helpers import is_helper_name, run_helper

_LIMIT_BYTES = 4 << 20


class Logins:
    """The file that *environ* names: ``$DOCKER_CONFIG/config.json`` or ``~/.docker/config.json``."""

    def __init__(self, environ: Mapping[str, str], *, helper_timeout_s: float = 60.0) -> None:
        self._environ = environ
        self._timeout_s = helper_timeout_s
        folder = environ.get("DOCKER_CONFIG") or os.path.join(environ.get("HOME", ""), ".docker")
        self.path = os.path.join(os.path.abspath(folder), "config.json")

    async def save(self, host: str, credential: Credential) -> str:
        """Keep *credential* for *host*; return where it is now.

        Raises:
            UserError: the file is there and cannot be understood.
            EnvironmentFault: it cannot be written, or the helper refuses.
        """
        config = self._read()
        helper = _helper_of(config, host)
        server = _server(host)
        if helper:
            request = {
                "ServerURL": server,
                "Username": credential.username,
                "Secret": credential.password,
            }
            await self._ask(helper, "store", json.dumps(request).encode())
            return f"docker-credential-{helper}"
        auth = f"{credential.username}:{credential.password}".encode()
        _auths(config)[server] = {"auth": base64.b64encode(auth).decode()}
        self._write(config)
        return self.path

    async def forget(self, host: str) -> bool:
        """Remove the login for *host*; return whether there was one.

        Raises:
            UserError, EnvironmentFault: as `save`.
        """
        config = self._read()
        helper = _helper_of(config, host)
        if helper:
            await self._ask(helper, "erase", _server(host).encode())
        gone = [key for key in _keys(host) if _auths(config).pop(key, None) is not None]
        if gone:
            self._write(config)
        return bool(gone or helper)

    async def _ask(self, helper: str, action: str, request: bytes) -> None:
        program = f"docker-credential-{helper}"
        try:
            if not is_helper_name(helper):
                raise FileNotFoundError
            status, output = await run_helper(
                helper, action, request, self._environ, self._timeout_s
            )
        except FileNotFoundError:
            raise EnvironmentFault(
                f"{program}: not found on PATH",
                hints=[f"install it, or take it out of {self.path}"],
            ) from None
        except TimeoutError:
            raise EnvironmentFault(f"{program}: no answer within {self._timeout_s:g} s") from None
        except OSError as error:
            raise EnvironmentFault(f"{program}: {error.strerror}") from error
        # As when reading: the words are the protocol's, there is no code for it.
        if status != 0 and not (action == "erase" and b"credentials not found" in output):
            raise EnvironmentFault(f"{program} {action}: exit status {status}")

    def _read(self) -> dict[str, Any]:
        try:
            with open(self.path, "rb") as file:
                value = json.loads(file.read(_LIMIT_BYTES))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise EnvironmentFault(f"cannot read {self.path}: {error.strerror}") from error
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UserError(f"{self.path} is not a JSON object", hints=["mend it, or move it away"])
        return cast("dict[str, Any]", value)

    def _write(self, config: Mapping[str, Any]) -> None:
        path = os.path.realpath(self.path)  # a link stays one: dotfiles are often kept elsewhere
        part = f"{path}.tmp-{os.urandom(8).hex()}"
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(part, flags, 0o600), "w", encoding="utf-8") as file:
                json.dump(config, file, indent="\t")
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except OSError as error:
            if os.path.exists(part):
                os.unlink(part)
            raise EnvironmentFault(f"cannot write {path}: {error.strerror}") from error


def _helper_of(config: Mapping[str, Any], host: str) -> str:
    """The helper that keeps the logins of *host*; empty for the file itself."""
    helpers = config.get("credHelpers")
    own: object = cast("dict[str, object]", helpers).get(host) if isinstance(helpers, dict) else ""
    helper = own or config.get("credsStore")
    return helper if isinstance(helper, str) else ""


def _auths(config: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(config.get("auths"), dict):
        config["auths"] = {}
    return cast("dict[str, Any]", config["auths"])


def _server(host: str) -> str:
    """The name of *host* in the file and for helpers."""
    return HUB_KEY if host == DOCKER_HUB else host


def _keys(host: str) -> list[str]:
    hub = [HUB_KEY, "index.docker.io", "registry-1.docker.io"] if host == DOCKER_HUB else []
    return [*hub, host, f"https://{host}", f"http://{host}"]


def parse_host(text: str) -> str:
    """Return the registry that *text* names, as references name it; Docker Hub for none.

    Raises:
        UsageError: that can be no registry.
    """
    bare = text.partition("://")[2] or text
    bare = bare.partition("/")[0]
    if bare in ("", "index.docker.io", "registry-1.docker.io", DOCKER_HUB):
        return DOCKER_HUB
    try:
        reference = Reference.parse(f"{bare}/x")
    except ValueError:
        reference = None
    if reference is None or reference.host != bare:
        raise UsageError(f'invalid registry "{text}"', hints=["a host, perhaps with a port"])
    return bare
