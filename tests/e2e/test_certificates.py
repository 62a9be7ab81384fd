"""Certificates for a registry, where docker and podman keep theirs [REG-10]."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.harness import Pybuild, write
from tests.registry.server.processes import process
from tests.registry.servers import Authority

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.mark.parametrize("whose", ["docker", "containers"])
def test_a_registry_that_wants_a_certificate_is_pushed_to_and_asked(
    tmp_path: Path, whose: str
) -> None:
    authority = Authority.make(tmp_path)
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /f\n", f="f")
    home = {"HOME": str(tmp_path / "home")}
    flags = ["--tlscert", str(authority.cert), "--tlskey", str(authority.key)]
    pybuild = Pybuild(tmp_path / "store")
    with process(tmp_path / "served", *flags, "--tlscacert", str(authority.ca)) as serving:
        name = f"{serving.host}/secret/app:1"
        refused = pybuild("build", "-t", name, "--push", context, env=home, code=3)
        assert "certificate verify failed" in refused.err
        directory = tmp_path / f"home/.config/{whose}/certs.d/{serving.host}"
        directory.mkdir(parents=True)
        shutil.copy(authority.ca, directory / "ca.crt")
        shutil.copy(authority.cert, directory / "client.cert")
        missing = pybuild("tags", name, env=home, code=2)
        assert '"client.key" is missing beside it' in missing.err
        shutil.copy(authority.key, directory / "client.key")
        pybuild("build", "-t", name, "--push", context, env=home)
        assert pybuild("tags", name, env=home).out == "1\n"
        pybuild("imagetools", "rm", name, env=home)
        assert pybuild("tags", name, env=home).out == ""
