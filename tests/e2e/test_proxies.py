"""A proxy that is out of order, as people meet it: named with its variable, and never the registry's fault."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY"])
@pytest.mark.parametrize(
    "lines", ["FROM r.invalid/a/b:1\n", "FROM scratch\nADD https://r.invalid/x /x\n"]
)
def test_a_proxy_that_is_down_is_named(
    pybuild: Pybuild, tmp_path: Path, variable: str, lines: str
) -> None:
    context = write(tmp_path / "c", Dockerfile=lines)
    with socket.socket() as closed:  # bound, so that nobody else listens there; refuses
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
        env = {variable: f"http://me:secret@{place}"}
        done = pybuild("build", context, env=env, code=3)
    first, second, *_ = done.err[done.err.index("error: ") :].splitlines()
    assert f"proxy {place} of {variable}: connection refused (r.invalid:443)" in first
    assert second == f"hint: mend or unset {variable}, or name r.invalid in no_proxy to go without"
    assert "secret" not in done.err
