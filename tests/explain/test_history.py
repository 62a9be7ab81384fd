"""Builds are kept with the reasons of what ran, and found again by the start of their names."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from pathlib import Path

import pytest

from pybuild.cache.content.buildhistory import Builds, name_of
from pybuild.cache.records.imported import ImportedCache
from pybuild.cache.records.inputs import Inputs
from pybuild.cache.store import Store
from pybuild.explain.account import Account
from pybuild.explain.cause import Surroundings
from pybuild.explain.history import BuildSubject, explain, find_report, reports
from pybuild.explain.report import BuildReport, Reason, to_json
from pybuild.image.cacheformat.config import CacheContents, CachedResult
from pybuild.image.cacheformat.namedinputs import pack
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.named import NamedInputs
from pybuild.solver.messages import Run
from tests.clocks import FakeClock
from tests.solver.builders import image, run

MAKE = run("[2/2] RUN make", image("[1/2] FROM base"))
OLD, KEY = Digest.of(b"old"), Digest.of(b"key")


def report(id: str, at: float = 0.0) -> BuildReport:
    return BuildReport(id=id, at=at, seconds=0.0, context="/c", dockerfile="D")


def test_a_build_is_found_by_the_start_of_its_name() -> None:
    builds = [report("abc"), report("abd"), report("b")]
    assert find_report(builds, "") is builds[0]
    assert find_report(builds, "abd") is builds[1]
    assert find_report(builds, "b") is builds[2]


def test_a_start_that_fits_none_or_several_is_refused_with_a_way_out() -> None:
    with pytest.raises(UserError, match="^no build is known here$") as caught:
        find_report([], "")
    assert caught.value.hints == ("pybuild build keeps a history",)
    with pytest.raises(UserError, match='^no build "x" is known here$') as caught:
        find_report([report("abc")], "x")
    assert caught.value.hints == ("list them with pybuild explain --list",)
    many = [report(f"a{n}") for n in range(7)]
    with pytest.raises(UserError, match='^build "a" could be any of a0, a1, a2, a3, a4$'):
        find_report(many, "a")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, warnings: list[str]) -> Generator[Store]:
    with Store.open(tmp_path / "s", FakeClock(112.0), warn=warnings.append) as opened:
        yield opened


def kept(
    store: Store, account: Account, *imports: ImportedCache, error: str = ""
) -> BuildReport | None:
    subject = BuildSubject(
        context="/c",
        dockerfile="D",
        target="t",
        targets=[MAKE],
        reported=(),
        around=Surroundings(trees={}, files={}, started=100.0),
    )
    inputs = Inputs(store)
    record = Builds(store).begin(100.0, {}, ())
    report = asyncio.run(explain(record, store, inputs, account, subject, imports, error))
    record.end("completed")
    return report


def missing(*, fresh: bool = False) -> Account:
    account = Account()
    named_inputs = NamedInputs({"op": {"type": "ExecOp", "env": ["A=2"]}})
    account.missed(MAKE, Run(1, MAKE, (), "job", KEY, named_inputs, fresh))
    return account


PARTS = {"op": {"type": "ExecOp", "env": ["A=1"]}}


def test_a_build_is_kept_with_what_it_was_of(store: Store) -> None:
    built = kept(store, Account(), error="it failed")
    assert built is not None
    assert (built.at, built.seconds, built.error) == (100.0, 12.0, "it failed")
    assert (built.context, built.dockerfile, built.target) == ("/c", "D", "t")
    assert [step.name for step in built.steps] == ["[1/2] FROM base", "[2/2] RUN make"]
    assert list(reports(store)) == [built]


def test_a_miss_is_explained_by_what_the_store_knows(store: Store) -> None:
    Inputs(store).put(OLD, MAKE.meta.name, NamedInputs(PARTS))
    built = kept(store, missing())
    assert built is not None
    assert built.steps[1].miss is not None
    assert [one.field for one in built.steps[1].miss.differences] == ["env.A"]


def test_a_miss_is_explained_by_what_an_import_knows(store: Store) -> None:
    result = CachedResult(
        key=OLD, aliases=(KEY,), name=MAKE.meta.name, packed_inputs=pack(NamedInputs(PARTS))
    )
    cache = ImportedCache(store, "cache:1", CacheContents({}, (result,)), {})
    built = kept(store, missing(), cache)
    assert built is not None
    assert built.steps[1].miss is not None
    assert built.steps[1].miss.place == "cache:1"
    assert [one.field for one in built.steps[1].miss.differences] == ["env.A"]


def test_what_was_to_run_afresh_needs_no_explanation(store: Store) -> None:
    built = kept(store, missing(fresh=True))
    assert built is not None
    assert built.steps[1].miss is not None
    assert built.steps[1].miss.reason is Reason.IGNORED


def test_a_history_that_cannot_be_written_fails_no_build(store: Store, warnings: list[str]) -> None:
    (Path(store.root) / "builds").write_text("in the way")
    assert kept(store, Account()) is not None
    assert len(warnings) == 1
    assert warnings[0].startswith("this build is not in the history: cannot write it")


def test_what_a_newer_pybuild_kept_is_passed_over_and_the_latest_comes_first(store: Store) -> None:
    builds = Builds(store)
    for number, at in enumerate((1.0, 3.0, 2.0)):
        one = report(f"{number:08x}", at)
        builds.write(name_of(at, one.id), to_json(one))
    builds.write(name_of(4.0, "0" * 8), {"format": 99})
    assert [one.at for one in reports(store)] == [3.0, 2.0, 1.0]
