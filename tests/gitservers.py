"""Real git repositories and the servers that give them away, on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web

from tests.needs import need
from tests.ports import free_ports

ENV = {
    "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
    "HOME": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_AUTHOR_DATE": "1700000000 +0000",
    "GIT_COMMITTER_DATE": "1700000000 +0000",
    "GIT_ALLOW_PROTOCOL": "file:http:git",
}


class Repository:
    """A repository to be served; its own working tree is where commits are made."""

    def __init__(self, path: Path, branch: str = "main") -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", f"--initial-branch={branch}")

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words],
            cwd=self.path,
            env=ENV,
            capture_output=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def commit(self, files: Mapping[str, str] | None = None, message: str = "m") -> str:
        for name, text in (files or {}).items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", "-A")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def need_git() -> None:
    need("git", "git-upload-pack")


@contextmanager
def git_daemon(root: Path) -> Generator[str]:
    """Serve the repositories below *root* by git's own protocol; gives ``git://…``."""
    need_git()
    (port,) = free_ports()
    process = subprocess.Popen(
        ["timeout", "-s", "KILL", "1800", "git", "daemon", "--reuseaddr", "--export-all"]
        + ["--listen=127.0.0.1", f"--port={port}", f"--base-path={root}", str(root)],
        env=ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
        yield f"git://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


def http_backend(root: Path, authorization: str = "") -> web.Application:
    """Serve the repositories below *root* through git's CGI program.

    Args:
        authorization: what the header must be; all is open without.
    """
    need_git()

    async def answer(request: web.Request) -> web.StreamResponse:
        import asyncio

        if authorization and request.headers.get("Authorization") != authorization:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env={
                **ENV,
                "GIT_PROJECT_ROOT": str(root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REQUEST_METHOD": request.method,
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
                "REMOTE_ADDR": "127.0.0.1",
            },
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await asyncio.wait_for(process.communicate(await request.content.read()), 30)
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.pop("Status", "200 OK").split()[0])
        return web.Response(status=status, body=body, headers=headers)

    application = web.Application(client_max_size=1 << 30, handler_args={"auto_decompress": False})
    application.router.add_route("*", "/{path:.*}", answer)
    return application


def make_key(path: Path) -> Path:
    """Make a private key without passphrase, and its public half beside it."""
    need("ssh-keygen")
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.name, "-f", str(path)]
    subprocess.run(words, check=True, timeout=60)
    return path


@dataclass(frozen=True)
class Sshd:
    """A running sshd.

    Attributes:
        login: ``user@host:port`` for a URL.
        known_hosts: its line for such a file.
    """

    login: str
    known_hosts: str


_SSHD_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host
AuthorizedKeysFile {home}/authorized
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
LogLevel VERBOSE
"""


@contextmanager
def sshd(home: Path, key: Path) -> Generator[Sshd]:
    """Run a real sshd in the foreground; whoever has *key* logs in as ourselves."""
    need_git()
    program = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("needs sshd (apt install openssh-server)")
    home.mkdir()
    public = make_key(home / "host").with_suffix(".pub").read_text()
    shutil.copy(key.with_suffix(".pub"), home / "authorized")
    (port,) = free_ports()
    config = home / "config"
    config.write_text(_SSHD_CONFIG.format(port=port, home=home))
    command = ["timeout", "-s", "KILL", "1800", program, "-D", "-e", "-f", str(config)]
    if os.geteuid() == 0:
        # As root it wants a directory of Debian's service, which no test makes on the machine.
        private = 'mount -t tmpfs none /run && mkdir /run/sshd && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", private, "sh", *command]
    log = home / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while b"Server listening" not in log.read_bytes():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        login = f"{getpass.getuser()}@127.0.0.1:{port}"
        yield Sshd(login, f"[127.0.0.1]:{port} {public}")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
