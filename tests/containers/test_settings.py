"""Settings of containers read from their words, and their rows in lists [CTR-3, CTR-30, CTR-37]."""

from __future__ import annotations

import pytest

from pybuild.containers.config import ContainerConfig
from pybuild.containers.container import Container
from pybuild.containers.defaults import read_cpus, read_pids
from pybuild.containers.listing import row_of
from pybuild.containers.order import HealthCheck
from pybuild.containers.state import EXITED, ContainerState
from pybuild.model.errors import UsageError


def test_a_number_of_processes_is_read() -> None:
    assert [read_pids(text) for text in ("5", "0", "-1")] == [5, 0, 0]
    with pytest.raises(UsageError, match='invalid --pids-limit "x": expected a number'):
        read_pids("x")
    assert read_cpus("1.5") == 1.5
    with pytest.raises(UsageError, match='invalid --cpus "x"'):
        read_cpus("x")


def test_a_look_after_health_has_dockers_numbers_where_none_were_given() -> None:
    check = HealthCheck(("CMD-SHELL", "true")).resolved(())
    assert check == HealthCheck(
        ("CMD", "/bin/sh", "-c", "true"), 30 * 10**9, 30 * 10**9, 0, 5 * 10**9, 3
    )
    given = HealthCheck(("CMD", "x"), 1, 2, 3, 4, 5)
    assert given.resolved(("/bin/ash",)) == given
    assert HealthCheck(("CMD-SHELL", "x"), 1, 2, 3, 4, 5).resolved(("/ash", "-e")) == HealthCheck(
        ("CMD", "/ash", "-e", "x"), 1, 2, 3, 4, 5
    )
    assert HealthCheck(("NONE",)).resolved(()) is None


def test_a_row_is_cut_unless_it_is_to_be_whole() -> None:
    config = ContainerConfig(
        id="ab" * 32, name="one", image="app", manifest="", deltas=(), cmd=("sleep", "1" * 40), network="none"
    )  # fmt: skip
    one, state = Container("/nowhere", config), ContainerState(status=EXITED, exit_code=3)
    row = row_of(one, state, None, (), whole=False)
    assert (row["ID"], row["Command"]) == ("abababababab", '"sleep 1111111111111…"')
    assert (row["State"], row["Names"], row["Networks"]) == (EXITED, "one", "none")
    whole = row_of(one, state, None, (), whole=True)
    assert (whole["ID"], whole["Command"]) == ("ab" * 32, f'"sleep {"1" * 40}"')
