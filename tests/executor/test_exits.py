"""Reasons of failed steps that only some machines give."""

from __future__ import annotations

import pytest

from pybuild.executor.steps.exits import StepFiles, reason_of
from pybuild.executor.steps.spec import StepExit
from pybuild.model.ops import ExecOp
from pybuild.model.platform import Platform

REFUSED = "wget: can't connect to remote host (127.0.0.1): Connection refused"
PROXY = "curl: (5) could not connect to proxy"


def reason(last: str, *, connected: bool, env: tuple[str, ...] = ()) -> tuple[str, str]:
    op = ExecOp(
        args=("/bin/sh", "-c", "x"),
        env=(),
        cwd="/",
        mounts=(),
        platform=Platform("linux", "amd64"),
        proxy_env=env,
    )
    return reason_of(op, StepExit(1), [last], StepFiles(()), [], "/", connected=connected)


@pytest.mark.parametrize(
    ("last", "env", "shown"),
    [
        (REFUSED, (), "at 127.0.0.1 is"),
        ("connect to localhost port 80 failed: Connection refused", (), "at localhost is"),
        (PROXY, ("http_proxy=http://127.0.0.1:3128",), "at 127.0.0.1 (http_proxy) is"),
    ],
)
def test_a_loopback_address_is_the_steps_own(last: str, env: tuple[str, ...], shown: str) -> None:
    cause, hint = reason(last, connected=True, env=env)
    assert cause.startswith(shown)
    assert "--network=host" in hint
    assert cause not in reason(last, connected=False, env=env)


def test_what_was_not_asked_there_has_other_reasons() -> None:
    for last in ("connect to 192.0.2.1 failed: Connection refused", "127.0.0.1 is a number"):
        assert reason(last, connected=True) == ("", f"it wrote last: {last}")
