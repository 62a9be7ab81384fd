"""Memos of finished builds: which command lines have one, and what must be as it was for one to hold [KEY-11]."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pybuild.builds import memo
from pybuild.cache.content.buildhistory import Builds, name_of
from pybuild.cache.content.origins import LAST_RESULT_OF
from pybuild.cache.store import Store
from pybuild.model.events import VertexAdded, VertexCached, VertexCompleted
from pybuild.registry.client import standing
from tests.clocks import FakeClock

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@dataclass
class Words:
    """A command line that was read."""

    positionals: list[str] = field(default_factory=list[str])
    values: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def one(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]


@pytest.fixture
def context(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    return tmp_path / "c"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make it so many seconds later than it is."""

    def set_clock(seconds: float) -> None:
        now = time.monotonic_ns() + offset
        monkeypatch.setattr(time, "time_ns", lambda: now + int(seconds * 1e9))

    offset = time.time_ns() - time.monotonic_ns()
    return set_clock


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positionals", "values"),
    [
        ([], {}),
        (["-"], {}),
        (["no/such/directory"], {}),
        (["{c}"], {"file": ["-"]}),
        (["{c}"], {"file": ["https://h.example/Dockerfile"]}),
    ],
)
def test_inputs_that_are_not_here_have_no_memo(
    context: Path, positionals: list[str], values: dict[str, list[str]]
) -> None:
    (context / "-").mkdir()  # a directory of that name is still standard input
    words = Words([one.replace("{c}", str(context)) for one in positionals], values)
    previous = os.getcwd()
    os.chdir(context)
    try:
        assert memo.key_of(words) is None
    finally:
        os.chdir(previous)


@pytest.mark.parametrize(
    "name",
    ["progress", "quiet", "debug", "iidfile", "metadata-file", "root", "load", "runtime",
     "explain", "fail-on-miss", "on-fail", "on-fail-container", "on-fail-output", "annotations", "cache-max", "ca"],
)  # fmt: skip
def test_options_of_telling_leave_the_name(context: Path, name: str) -> None:
    assert memo.key_of(Words([str(context)], {name: ["x"]})) == memo.key_of(Words([str(context)]))


@pytest.mark.parametrize(
    "values",
    [
        {"tag": ["x"]},
        {"file": ["Other"]},
        {"build-arg": ["A=1"]},
        {"label": ["A=1"]},
        {"build-context": ["n=."]},
        {"config": ["/etc/other"]},
    ],
)
def test_other_options_make_another_name(context: Path, values: dict[str, list[str]]) -> None:
    key = memo.key_of(Words([str(context)], values))
    assert key is not None and len(key) == 64
    assert key != memo.key_of(Words([str(context)]))


@pytest.mark.parametrize("variable", ["SOURCE_DATE_EPOCH", "PYBUILD_CONFIG"])
def test_variables_of_a_build_are_part_of_the_name(
    context: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv(variable, raising=False)
    without = memo.key_of(Words([str(context)]))
    monkeypatch.setenv(variable, "1")
    assert memo.key_of(Words([str(context)])) != without


def test_an_option_wins_over_its_variable(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words([str(context)], {"config": ["/x"]})
    without = memo.key_of(words)
    monkeypatch.setenv("PYBUILD_CONFIG", "/y")
    assert memo.key_of(words) == without


@pytest.mark.parametrize("option", ["build-arg", "label"])
def test_a_name_alone_is_the_variables_value(
    context: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setenv("GIVEN", "1")
    alone = memo.key_of(Words([str(context)], {option: ["GIVEN"]}))
    assert alone == memo.key_of(Words([str(context)], {option: ["GIVEN=1"]}))
    monkeypatch.setenv("GIVEN", "2")
    assert alone != memo.key_of(Words([str(context)], {option: ["GIVEN"]}))
    assert alone == memo.key_of(Words([str(context)], {option: ["GIVEN=1"]}))


def test_places_are_told_in_full(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(context)
    full = Words([str(context)], {"file": [f"{context}/D"], "build-context": [f"n={context}"]})
    monkeypatch.chdir(context)
    short = Words(["."], {"file": ["no", "D"], "build-context": [f"n={tmp_path}/link"]})
    assert memo.key_of(short) == memo.key_of(full)
    # What was read is as it was: it is read again for the build.
    assert short.values["build-context"] == [f"n={tmp_path}/link"]
    assert short.values["file"] == ["no", "D"]


# --- files ----------------------------------------------------------------------------------------


@dataclass
class Kept:
    """A store, and what a memo of a build in it says."""

    root: Path
    document: dict[str, Any]

    def holds(self, **changes: Any) -> bool:
        return memo.holds(self.document | changes, str(self.root))


@pytest.fixture
def kept(tmp_path: Path, context: Path) -> Kept:
    root = tmp_path / "store"
    (root / "memo").mkdir(parents=True)
    (root / "store.json").write_text('{"version": 1}')
    origin = ["here", "/c", ""]
    notes = {"io.containerd.image.name": "app:1"}
    last = {LAST_RESULT_OF: json.dumps([origin])}
    entries = [
        {"digest": DIGEST, "annotations": notes},
        {"digest": DIGEST},
        {"digest": OTHER, "annotations": last},
    ]
    (root / "index.json").write_text(json.dumps({"manifests": entries}))
    (root / "blob").write_text("12345")
    (root / "resolution").write_text(json.dumps({"manifest": {"digest": OTHER}}))
    (context / "Dockerfile").write_text("FROM base")
    content = {
        "files": [
            (str(context / "Dockerfile"), memo.file_digest(b"FROM base")),
            (str(context / ".dockerignore"), ""),
        ],
        "resolutions": [(str(root / "resolution"), OTHER)],
        "bases": [("app:1", DIGEST)],
        "present": [(str(root / "blob"), 5)],
        "is_kept": True,
        "layers": [str(root)],
        "outputs": [(str(root / "blob"), memo.output_state(str(root / "blob"))[0])],
        "image": {"digest": DIGEST},
        "names": ["app:1"],
        "origin": origin,
        "contexts": [],
        "pushed": [],
    }
    memo.save(str(root), "key", content)
    document = memo.load(str(root), "key")
    assert document is not None
    return Kept(root, document)


def test_a_memo_holds_while_nothing_changes(kept: Kept) -> None:
    assert kept.holds()
    assert os.listdir(kept.root / "memo") == ["key"]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("store/store.json", '{"version": 2}'),
        ("c/Dockerfile", "FROM other"),
        ("c/Dockerfile", None),
        ("c/.dockerignore", "x"),
        ("store/resolution", '{"manifest": {"digest": "x"}}'),
        ("store/resolution", "[]"),
        ("store/resolution", None),
        ("store/blob", "1234"),
        ("store/blob", None),
        ("store/index.json", '{"manifests": []}'),
        ("store/index.json", "[" * 100_000),
        ("store/index.json", "{"),
        ("store/index.json", '{"manifests": [1]}'),
        ("store/index.json", '{"manifests": {"digest": 1}}'),
        ("store/index.json", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_memo_does_not_hold_when_something_changed(
    kept: Kept, tmp_path: Path, place: str, text: str | None
) -> None:
    if text is None:
        (tmp_path / place).unlink()
    else:
        (tmp_path / place).write_text(text)
    assert not kept.holds()


def test_a_pipe_is_not_used_up(kept: Kept, context: Path) -> None:
    (context / "Dockerfile").unlink()
    os.mkfifo(context / "Dockerfile")
    assert not kept.holds()


def test_all_names_have_to_be_the_results(kept: Kept) -> None:
    assert not kept.holds(names=["app:1", "app:2"])
    assert not kept.holds(image={"digest": OTHER})
    assert not kept.holds(bases=[("app:2", DIGEST)])


def test_what_was_pushed_has_to_be_where_it_went(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = {("h:5000", "/v2/a/manifests/1", "t", DIGEST): True, ("gone:5000", "", "", ""): False}

    def answer(host: str, path: str, token: str, digest: str) -> bool:
        return there[host, path, token, digest]

    def fault(host: str, path: str, token: str, digest: str) -> bool:
        raise FileNotFoundError(host)

    monkeypatch.setattr(standing, "stands", answer)
    first, gone = there
    assert kept.holds(pushed=[first])
    assert not kept.holds(pushed=[first, gone])
    monkeypatch.setattr(standing, "stands", fault)
    assert not kept.holds(pushed=[first])


def test_what_is_not_kept_needs_no_names(kept: Kept) -> None:
    assert kept.holds(is_kept=False, image=None, names=["app:2"])
    assert not kept.holds(is_kept=False, layers=[str(kept.root / "blob")])
    assert not kept.holds(is_kept=False, outputs=[(str(kept.root), "other")])


def test_a_file_that_an_output_wrote_is_as_it_was_or_not(kept: Kept) -> None:
    (kept.root / "blob").write_text("54321")
    assert not kept.holds()


def test_a_result_without_names_is_the_last_of_its_origin(kept: Kept) -> None:
    assert not kept.holds(names=[])
    assert kept.holds(names=[], image={"digest": OTHER})
    assert not kept.holds(names=[], image={"digest": OTHER}, origin=["here", "/other", ""])


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"format": 4}', "{}", "[" * 100_000, '{"format": "5"}'],
    ids=lambda text: text[:20],
)
def test_a_damaged_memo_is_none(kept: Kept, text: str) -> None:
    (kept.root / "memo/key").write_text(text)
    assert memo.load(str(kept.root), "key") is None


def test_there_may_be_no_memo(tmp_path: Path) -> None:
    assert memo.load(str(tmp_path), "key") is None
    assert not memo.holds({}, str(tmp_path))


def test_no_content_is_the_empty_text() -> None:
    assert memo.file_digest(None) == ""
    assert (
        memo.file_digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )


# --- contexts -------------------------------------------------------------------------------------


def test_a_context_is_signed_when_its_files_have_rested(
    context: Path, later: Callable[[float], None]
) -> None:
    (context / "f").write_text("1")
    later(0.02)
    assert memo.sign_context(str(context), [""], []) is None
    later(1.0)
    signed = memo.sign_context(str(context), [""], ["x"])
    assert signed is not None
    assert list(signed.values())[:3] == [str(context), [""], ["x"]]
    assert memo.context_holds(signed)
    (context / "x").write_text("hidden")
    assert memo.context_holds(signed)
    (context / "g").write_text("2")
    assert not memo.context_holds(signed)


def test_what_was_just_looked_at_is_signed_by_that_once(
    context: Path, later: Callable[[float], None]
) -> None:
    (context / "f").write_text("1")
    later(1.0)
    signed = memo.sign_context(str(context), [""], [])
    assert signed is not None
    (context / "f").write_text("22")
    later(2.0)
    assert not memo.context_holds(signed)
    # A change since then belongs to the next build: its memo will not hold.
    (context / "g").write_text("3")
    by_the_look = memo.sign_context(str(context), [""], [])
    assert by_the_look is not None and not memo.context_holds(by_the_look)
    memo.sign_context(str(context), [""], [])
    by_another = memo.sign_context(str(context), [""], [])
    assert by_another is not None and by_another != by_the_look


def test_a_context_that_cannot_be_read_is_not_signed(tmp_path: Path) -> None:
    assert memo.sign_context(str(tmp_path / "none"), [""], []) is None


def test_a_build_from_a_memo_is_in_the_same_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "store", FakeClock())
    monkeypatch.setattr(memo, "MOST_BUILDS", 2)
    ids = iter([b"\x10aaa", b"\x10bbb", b"\x10ccc", b"\x00ddd"])

    def next_id(count: int) -> bytes:
        return next(ids)

    monkeypatch.setattr(os, "urandom", next_id)
    for at in range(4):
        rows = [["load", "DONE 0.0s"], ["RUN make", "CACHED"]]
        memo.keep_build(store.root, float(at), {"name": "n", "rows": rows})
    newest, older = Builds(store).all()
    assert (newest.facts["at"], older.facts["at"]) == (3.0, 2.0)
    assert newest.name == name_of(3.0, newest.id)
    assert [type(event) for event in newest.events()] == [
        *(VertexAdded, VertexCompleted),
        *(VertexAdded, VertexCached),
    ]
    store.close()


def test_a_volume_is_named_by_its_own_place(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (context / "d").mkdir()
    (context / "link").symlink_to("d")
    monkeypatch.chdir(context)
    monkeypatch.setenv("HOME", str(context))

    def key(volume: str) -> str | None:
        return memo.key_of(Words([str(context)], {"volume": [volume]}))

    whole = key(f"{context}/d:/in:ro")
    assert whole == key("./d:/in:ro") == key("~/d:/in:ro") == key("link:/in:ro")
    assert len({whole, key("d:/in"), key("d:/other:ro"), key(".:/in:ro")}) == 4
