"""Runs the real `git` for a worker: bounded in time, output and file size, deaf to any setting.

Lean: runs in a call's child of the zygote, which has one thread.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pybuild.executor.sources.gitvalues import GitRemote

_MAX_OUTPUT_BYTES = 64 << 20
_MAX_ERROR_BYTES = 32 << 10
NETWORK = "http:https:git:ssh"
LOCAL = "file"

# What a repository, a server or this machine might say is overruled here. It is handed over in the
# environment, which git passes on to the processes that it starts for submodules [ADD-8].
_SETTINGS = (
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.excludesFile", "/dev/null"),
    ("core.askPass", ""),
    ("credential.helper", ""),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("submodule.recurse", "false"),
    ("init.defaultBranch", "master"),
    ("init.templateDir", ""),
    ("advice.detachedHead", "false"),
    ("uploadpack.packObjectsHook", ""),
    # Silence is no progress: a server that sends less for a minute is given up.
    ("http.lowSpeedLimit", "100"),
    ("http.lowSpeedTime", "60"),
)


class ProgramFailed(Exception):
    """The program ended with a status that is not 0; *stderr* is what it said, credentials cut."""

    def __init__(self, stderr: str) -> None:
        super().__init__(stderr)
        self.stderr = stderr


class Git:
    """The git program with the credentials for one remote.

    Args:
        socket: of the ssh agent, or empty.
    """

    def __init__(self, remote: GitRemote, socket: str = "") -> None:
        settings = list(_SETTINGS)
        if remote.header:
            # Never in argv.
            header = f"Authorization: {remote.header}"
            settings.append((f"http.{remote.scope}.extraHeader", header))
            # git would send the header to whatever place it is redirected to.
            settings.append(("http.followRedirects", "false"))
        self._env = {
            **remote.environ,
            "LC_ALL": "C",
            "HOME": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_SSH_VARIANT": "ssh",
            "GIT_SSH_COMMAND": remote.ssh_command or "false",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        if socket:
            self._env["SSH_AUTH_SOCK"] = socket
        for number, (key, value) in enumerate(settings):
            self._env[f"GIT_CONFIG_KEY_{number}"] = key
            self._env[f"GIT_CONFIG_VALUE_{number}"] = value
        self._max_bytes = remote.max_bytes
        self._hidden = [text for text in (remote.header, *remote.hidden) if text]

    def run(
        self,
        *words: str,
        protocols: str = "",
        git_dir: str = "",
        cwd: str = "/",
        seconds: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run ``git *words*`` and return what it wrote.

        Args:
            protocols: which ones it may speak; none unless given.

        Raises:
            ProgramFailed: its status is not 0. Fault: environment; no git, or it took too long.
        """
        where = [f"--git-dir={git_dir}"] if git_dir else []
        environment = {**self._env, "GIT_ALLOW_PROTOCOL": protocols or "none", **(env or {})}
        try:
            process = subprocess.Popen(
                ["git", *where, *words],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=self._prepare,  # noqa: PLW1509 - this process has one thread
            )
        except FileNotFoundError as error:
            raise Fault(
                ENVIRONMENT,
                "git is not installed, and a source needs it",
                ("install the package git",),
            ) from error
        try:
            out, err = self._listen(process, words[0], seconds)
        finally:
            if process.poll() is None:
                _kill(process)
        text = self._cut(err.decode("utf-8", "replace"))
        if process.returncode:
            raise ProgramFailed(text or f"git {words[0]}: status {process.returncode}")
        return out.decode("utf-8", "surrogateescape")

    def _prepare(self) -> None:
        import resource

        # When the worker is killed, so is git; what git started ends with its pipes.
        syscalls.prctl(1, signal.SIGKILL)
        os.umask(0o022)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._max_bytes, self._max_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def _listen(
        self, process: subprocess.Popen[bytes], word: str, seconds: float
    ) -> tuple[bytes, bytes]:
        assert process.stdout is not None and process.stderr is not None
        parts = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        limits = {
            process.stdout.fileno(): _MAX_OUTPUT_BYTES,
            process.stderr.fileno(): _MAX_ERROR_BYTES,
        }
        out, err = parts.values()
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector, process.stdout, process.stderr:
            for fd in parts:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Fault(ENVIRONMENT, f"git {word} took longer than {seconds:.0f} s")
                for key, _ in selector.select(left):
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                    parts[key.fd] += data
                    if len(parts[key.fd]) > limits[key.fd]:
                        if key.fd != process.stderr.fileno():
                            raise Fault(ENVIRONMENT, f"git {word} does not stop talking")
                        del err[: -_MAX_ERROR_BYTES // 2]
            try:
                process.wait(max(1.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired as error:
                raise Fault(ENVIRONMENT, f"git {word} took longer than {seconds:.0f} s") from error
        return bytes(out), bytes(err)

    def _cut(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, "xxxxx")
        return text.strip()


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
