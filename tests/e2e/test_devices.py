"""``RUN --device`` on machines that have no such device, as machines of tests do [RUN-7, SEC-5]."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
NAME = "no.such.vendor/gpu=all"


def test_a_device_that_is_not_there_is_left_out_unless_required(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    step = f"RUN --device={NAME} echo ran > /f\n"
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {base}\n{step}")
    pybuild("build", "-t", "app", context)
    assert pybuild("run", "app", "cat", "/f").out == "ran\n"
    required = step.replace(NAME, f"{NAME},required")
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {base}\nRUN false\n{required}")
    failed = pybuild("build", "--allow", "device", context, code=1).err
    assert f'required device "{NAME}" is not registered' in failed
    assert f">>> {required.strip()}" in failed
    assert "RUN false" not in failed.split("error:")[0]  # found out before anything ran
