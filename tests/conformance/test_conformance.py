"""pybuild does what the reference builder did, case for case [issue 3].

The records in ``expected/`` come from ``reference.py``; `differences.toml` says where we differ on
purpose, and why.
"""

from __future__ import annotations

import asyncio
import os
import threading
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings
from tests.conformance.cases import HERE, Case, load_cases, make_base
from tests.conformance.outcome import Outcome, compare
from tests.conformance.reference import load_expected
from tests.conformance.subject import run_case
from tests.needs import need

CASES = load_cases()
DIFFERENCES: dict[str, dict[str, str]] = tomllib.loads((HERE / "differences.toml").read_text())

T = TypeVar("T")
Run = Callable[[Case], Outcome]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Builds a case with one engine that all of them share."""
    if os.geteuid() != 0:
        pytest.skip("needs root: cases have owners and device nodes")
    need("busybox")
    scratch = tmp_path_factory.mktemp("conformance")
    base = make_base(scratch / "base")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(60)

    engine = Engine(Settings(root=str(scratch / "store")))
    wait(engine.__aenter__())
    try:
        yield lambda case: wait(run_case(engine, case, scratch / case.name, base))
    finally:
        wait(engine.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(run: Run, case: Case) -> None:
    expected = load_expected(case.section).get(case.name)
    assert expected, "no record: python -m tests.conformance.reference --record --new"
    differences = compare(expected, run(case))
    if case.name in DIFFERENCES:
        assert differences, f"{case.name} is equal now: take it out of differences.toml"
    else:
        assert not differences, "\n" + "\n".join(differences)


def test_names_are_unique_and_differences_are_about_cases() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))
    assert set(DIFFERENCES) <= set(names)
    assert all(entry["reason"] for entry in DIFFERENCES.values())
