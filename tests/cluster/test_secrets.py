"""A secret goes over one connection, to the worker whose step names it, and nowhere else [issue 18, A6]."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from pybuild.builds.request import Secret
from tests.cluster.rig import Site, context, run_site
from tests.executor.sandbox_helpers import skip_unless_possible

VALUE = b"s3cr3t-0123456789-s3cr3t"


@pytest.mark.slow
@pytest.mark.sandbox
def test_no_byte_of_a_secret_goes_over_any_other_connection(tmp_path: Path) -> None:
    """Unix sockets have no TLS, so what goes over them can be read; all go through relays, those of peers too."""
    skip_unless_possible()
    path = context(
        tmp_path / "ctx",
        "FROM base AS one\n"
        "RUN --mount=type=secret,id=key busybox wc -c < /run/secrets/key > /size && sleep 1\n"
        "FROM base AS two\nRUN echo two > /two && sleep 1\n"
        "FROM base\nCOPY --from=one /size /\nCOPY --from=two /two /\nRUN cat /size /two\n",
    )

    async def work(site: Site) -> None:
        secret = Secret(id="key", read=partial(bytes, VALUE))
        await site.build(path, secrets={"key": secret})
        assert site.log.endswith("24\ntwo\n")
        carried = {
            (name, number, is_to): bytes(data)
            for name, relay in site.relays.items()
            for number, (is_to, data) in enumerate(relay.carried)
        }
        holding = [key for key, data in carried.items() if VALUE in data]
        assert len(holding) == 1, "it was asked for once, by one worker"
        assert holding[0][2], "it went to the worker, and came from none"
        assert carried[holding[0]].count(VALUE) == 1
        for worker in site.workers.values():
            assert VALUE.decode() not in worker.said()
            # Its janitor deletes meanwhile: `Path.rglob` raises for a directory that has gone, `os.walk` does not.
            tree = os.walk(worker.root)
            files = [Path(folder, name) for folder, _, names in tree for name in names]
            assert not [file for file in files if file.is_file() and VALUE in _bytes_of(file)]

    run_site(tmp_path / "store", {"a": 1, "b": 1}, work, relayed=("a", "b"))


def _bytes_of(file: Path) -> bytes:
    """Return the bytes of a file of a store; none if its janitor has deleted it meanwhile."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
