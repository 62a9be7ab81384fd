"""Real servers for tests: started on loopback, time-limited, always ended by their starter."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.ports import free_ports

DOCKER_REGISTRY = "docker-registry"
_START_S = 60.0
_LIFETIME_S = 1800


@dataclass(frozen=True)
class TokenAuth:
    """Return the settings that make the registry demand bearer tokens."""

    realm: str
    service: str
    issuer: str
    root_certificate: Path


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server certificate and its key."""

    cert: Path
    key: Path


class RegistryProcess:
    """Debian's docker-registry; use it as a context, or call `stop`."""

    def __init__(
        self, process: subprocess.Popen[bytes], host: str, root: Path, scheme: str, log: Path
    ) -> None:
        self.process = process
        self.host = host  # 127.0.0.1:<port>
        self.root = root  # its storage directory
        self.scheme = scheme
        self.log = log

    @property
    def pid(self) -> int:
        """Of the process whose child the registry is."""
        return self.process.pid

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def stop(self) -> None:
        """End it and wait for the end; idempotent."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def has_registry() -> bool:
    return shutil.which(DOCKER_REGISTRY) is not None


def start_registry(
    tmp_path: Path,
    *,
    htpasswd: Mapping[str, str] | None = None,
    token: TokenAuth | None = None,
    tls: ServerTls | None = None,
    lifetime_s: int = _LIFETIME_S,
) -> RegistryProcess:
    """Start a registry on a free port of 127.0.0.1 and wait until it answers.

    Args:
        tmp_path: gets the configuration, the log and the storage.
        htpasswd: passwords by user; makes it ask for Basic credentials.
        token: makes it ask for bearer tokens.
        tls: makes it speak TLS.

    The process ends by itself after *lifetime_s*, should nobody stop it.
    """
    program = shutil.which(DOCKER_REGISTRY)
    if program is None:
        raise RuntimeError(f"{DOCKER_REGISTRY} is not installed")
    directory = tmp_path / f"registry-{secrets.token_hex(4)}"
    root = directory / "storage"
    root.mkdir(parents=True)
    log = directory / "log"
    for _ in range(5):  # another process may have come to the same port
        port = free_ports()[0]
        config = directory / "config.json"  # JSON is YAML
        config.write_text(json.dumps(_config(directory, root, port, htpasswd, token, tls)))
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["timeout", "-s", "KILL", str(lifetime_s), program, "serve", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={"PATH": os.environ.get("PATH", ""), "OTEL_TRACES_EXPORTER": "none"},
                start_new_session=True,
            )
        scheme = "https" if tls else "http"
        running = RegistryProcess(process, f"127.0.0.1:{port}", root, scheme, log)
        try:
            if _answers(running):
                return running
        except BaseException:
            running.stop()
            raise
        running.stop()
    raise RuntimeError(f"{DOCKER_REGISTRY} does not start:\n{log.read_text()[-2000:]}")


def _config(
    directory: Path,
    root: Path,
    port: int,
    htpasswd: Mapping[str, str] | None,
    token: TokenAuth | None,
    tls: ServerTls | None,
) -> dict[str, object]:
    http: dict[str, object] = {"addr": f"127.0.0.1:{port}", "secret": "only-for-tests"}
    if tls is not None:
        http["tls"] = {"certificate": str(tls.cert), "key": str(tls.key)}
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(root)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": http,
    }
    if htpasswd is not None:
        path = directory / "htpasswd"
        lines = [f"{user}:{_bcrypt(password)}" for user, password in htpasswd.items()]
        path.write_text("\n".join(lines) + "\n")
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(path)}}
    if token is not None:
        config["auth"] = {
            "token": {
                "realm": token.realm,
                "service": token.service,
                "issuer": token.issuer,
                "rootcertbundle": str(token.root_certificate),
            }
        }
    return config


def _bcrypt(password: str) -> str:
    """The registry takes bcrypt only, which neither Python nor openssl can make."""
    if shutil.which("htpasswd"):
        done = subprocess.run(
            ["htpasswd", "-niB", "-C", "4", "user"],
            input=password.encode(),
            capture_output=True,
            timeout=60,
            check=True,
        )
        return done.stdout.decode().strip().partition(":")[2]
    import ctypes
    import ctypes.util

    crypt = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed = crypt(password.encode(), b"$2y$04$abcdefghijklmnopqrstuu")
    if not hashed or not hashed.startswith(b"$2y$"):
        raise RuntimeError("no bcrypt on this machine")
    return bytes(hashed).decode()


def _answers(running: RegistryProcess) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if running.process.poll() is not None:
            return False
        try:
            with opener.open(running.url + "/v2/", timeout=2):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 401
        except OSError:
            time.sleep(0.02)
    return False
