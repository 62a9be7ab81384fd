"""Leases that a long process has for jobs go when these have ended."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from pybuild.cache.content.leases import RollingLease
from pybuild.cache.space.mark import mark
from pybuild.cache.store import Store
from tests.clocks import FakeClock


def leased(store: Store) -> set[str]:
    return {name for kind, name in mark(store).leased if kind == "blob"}


def test_a_thing_stays_as_long_as_a_job_that_was_there_when_it_was_leased(tmp_path: Path) -> None:
    digests: dict[str, str] = {}
    with Store.open(str(tmp_path / "s"), FakeClock()) as store:
        rolling = RollingLease(store.leases)
        for name in "abc":
            digests[name] = "sha256:" + name * 64
        first, second, third = ExitStack(), ExitStack(), ExitStack()
        first.enter_context(rolling.during())
        rolling.add("blob", digests["a"])
        second.enter_context(rolling.during())
        rolling.add("blob", digests["b"])
        assert leased(store) == {digests["a"], digests["b"]}
        first.close()
        assert leased(store) == {digests["b"]}
        third.enter_context(rolling.during())
        rolling.add("blob", digests["c"])
        second.close()
        assert leased(store) == {digests["c"]}
        third.close()
        assert leased(store) == set()
        rolling.add("blob", digests["a"])  # between jobs
        assert leased(store) == {digests["a"]}
        with rolling.during():
            pass
        assert leased(store) == set()
        rolling.close()
