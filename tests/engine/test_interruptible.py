"""Signals that end a command, and what is not to be left half done by them."""

from __future__ import annotations

import os
import signal

import pytest

from pybuild.engine.interruptible import Ended, before_signals, ended_by_signals
from pybuild.model.errors import Cancelled


def test_a_block_ends_before_the_signal_that_came_meanwhile_ends_the_command() -> None:
    done: list[str] = []
    with ended_by_signals():
        with pytest.raises(Cancelled) as caught, before_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)  # the second changes nothing
            done.append("all of it")
        assert caught.value.exit_code == 128 + signal.SIGTERM
        with pytest.raises(Ended):
            os.kill(os.getpid(), signal.SIGHUP)
    assert done == ["all of it"]


def test_what_a_block_failed_by_is_told_not_the_signal() -> None:
    with pytest.raises(ValueError, match="mine"), ended_by_signals(), before_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("mine")


def test_who_ignores_a_signal_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals(), before_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
