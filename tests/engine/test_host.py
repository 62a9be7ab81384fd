"""Platforms as people write them, completed by what this machine is."""

from __future__ import annotations

import os
import time

import pytest

from pybuild.engine.host import SystemClock, native_platform, platforms_from
from pybuild.model.errors import UsageError, UserError
from pybuild.model.platform import Platform


def machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*real[:4], name)))


def test_this_machine_is_linux_with_its_own_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "aarch64")
    assert native_platform() == Platform("linux", "arm64")


def test_platforms_are_a_list_without_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, "x86_64")
    amd64, arm64 = Platform("linux", "amd64"), Platform("linux", "arm64")
    assert platforms_from("") == ()
    assert platforms_from(" , ") == ()
    assert platforms_from("local") == (amd64,)
    assert platforms_from("arm64, linux/amd64 ,local,linux/arm64") == (arm64, amd64)


def test_what_is_no_platform_is_a_mistake_in_the_command_line() -> None:
    with pytest.raises(UsageError) as caught:
        platforms_from("linux/amd64,linux/amd64/v1/more")
    assert "linux/amd64/v1/more" in caught.value.message


def test_the_time_is_the_real_one() -> None:
    before = time.time()
    assert before <= SystemClock().now() <= time.time()


def test_an_architecture_that_nobody_knows_is_said_to_be_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_words: str) -> Platform:
        raise ValueError("unknown architecture")

    monkeypatch.setattr(Platform, "make", unknown)
    with pytest.raises(UserError, match="^this machine: unknown architecture$"):
        native_platform()
