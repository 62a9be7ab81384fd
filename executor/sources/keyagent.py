"""The worker function that is the keeper of an ``ssh-agent`` with given keys [SEC-4]."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, USER, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pybuild.model.border import WorkerCall

_START_S = 10
_PDEATHSIG, _NO_NEW_PRIVS = 1, 38


def serve(call: WorkerCall, keys: Sequence[tuple[str, bytes]], path: str) -> None:
    """Run an agent on the socket ``agent`` in the directory handed over until this worker is ended.

    Args:
        keys: file name and bytes of each private key.
        path: where programs are.

    Reports progress once, when all keys are in.

    Raises:
        Fault: user; a key has a passphrase or is none. Environment; there is no ssh-agent.
    """
    socket = f"/proc/{os.getpid()}/fd/{call.fds[0]}/agent"
    env = {"PATH": path, "HOME": "/dev/null", "LC_ALL": "C", "SSH_AUTH_SOCK": socket}
    try:
        agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", socket],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_bind_to_us,  # noqa: PLW1509 - this process has one thread
        )
    except FileNotFoundError as error:
        raise Fault(
            ENVIRONMENT, "ssh-agent is not installed", ("install the package openssh-client",)
        ) from error
    try:
        deadline = time.monotonic() + _START_S
        while not os.path.exists(socket):
            if agent.poll() is not None or time.monotonic() > deadline:
                raise Fault(ENVIRONMENT, "ssh-agent does not start")
            time.sleep(0.01)
        for name, key in keys:
            _add(name, key, env)
        call.progress(0)
        agent.wait()
    finally:
        agent.kill()
        agent.wait()


def _bind_to_us() -> None:
    # Where ssh-agent is set-group-id, it would lose the signal of its parent's death.
    syscalls.prctl(_NO_NEW_PRIVS, 1)
    syscalls.prctl(_PDEATHSIG, signal.SIGKILL)


def _add(name: str, key: bytes, env: dict[str, str]) -> None:
    data = key if key.endswith(b"\n") else key + b"\n"
    try:
        done = subprocess.run(
            ["ssh-add", "-q", "-"],
            env={**env, "SSH_ASKPASS_REQUIRE": "force", "SSH_ASKPASS": "/bin/false"},
            input=data,
            capture_output=True,
            timeout=_START_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Fault(ENVIRONMENT, f"ssh-add does not come back with the key {name}") from error
    if done.returncode:
        raise Fault(
            USER,
            f"failed to parse private key {name}: it has a passphrase or is none",
            ("add it to your ssh-agent and forward that: --ssh default",),
        )
