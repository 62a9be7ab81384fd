"""Builds in this process by the words of a command line, and the history of their store [2.1, 6].

Without steps; each takes a tenth of a second or two, as nothing smaller runs a whole build.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pybuild.builds.archives import load_archive, save_images
from pybuild.builds.buildlisting import facts_of, page_of, row_of
from pybuild.builds.buildrecord import BuildStatus
from pybuild.builds.localbuilder import LocalBuilder
from pybuild.builds.request import BuildRequest
from pybuild.builds.requestvalues import parse_allowed, parse_contexts, parse_secret
from pybuild.cache.space.prune import Policy
from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.exporter.output import parse_output
from pybuild.frontend.question import Question
from pybuild.model.errors import UsageError, UserError
from pybuild.model.events import Event, VertexAdded
from pybuild.model.reference import Reference
from tests.clocks import FakeClock

COPY = b"ARG A=1\nFROM scratch AS base\nLABEL a=$A\nCOPY f /d/\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    place = tmp_path / "context"
    place.mkdir()
    (place / "Dockerfile").write_bytes(COPY)
    (place / "f").write_text("text")
    return place


@pytest.fixture
def builder(tmp_path: Path) -> LocalBuilder:
    parsed = Parsed()
    parsed.values = {"root": [str(tmp_path / "store")], "no-background": ["true"]}
    return LocalBuilder(parsed)


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events if isinstance(event, VertexAdded)]


def test_a_build_is_made_remembered_shown_and_forgotten(
    builder: LocalBuilder, context: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no build is known here: there is no store at"):
        builder.reports(everything=False)
    assert builder.builds() == []
    assert builder.disk_bytes() > 1 << 20
    events: list[Event] = []
    app = Reference.parse("app:1")
    request = BuildRequest(context=str(context), tags=(app,), build_args={"A": "2"})
    result = builder.build(request, events.append)
    assert result.image is not None
    assert ("[1/1] COPY f /d/", "DONE") in result.steps and "[1/1] COPY f /d/" in names(events)
    assert ("[1/1] COPY f /d/", "CACHED") in builder.build(request, events.append).steps
    with pytest.raises(UserError, match='"absent" is not in the context'):
        failing = replace(request, dockerfile_text=b"FROM scratch\nCOPY absent /\n")
        builder.build(failing, events.append)
    failed, again, first = builder.builds()
    assert [one.status for one in (failed, again, first)] == [
        BuildStatus.ERROR, BuildStatus.COMPLETED, BuildStatus.COMPLETED
    ]  # fmt: skip
    row = row_of(first, 36)
    assert (row["Ref"], row["Status"], row["Name"]) == (first.id, "Completed", first.name)
    assert row_of(replace(first, seconds=None), 36)["Duration"].endswith("+")
    assert row_of(replace(first, name="a" * 40), 10)["Name"] == ".." + "a" * 8
    facts = facts_of(first)
    assert (facts["ref"], facts["total_steps"]) == (first.id, first.total)
    assert facts["completed_at"] and "completed_at" not in facts_of(replace(first, seconds=None))
    page = page_of(first)
    assert f"Context:    {context}\n" in page and "Dockerfile: Dockerfile\n" in page
    assert "BUILD ARG   VALUE\nA           2\n" in page
    assert str(result.image.digest) in page
    assert f"Print build logs: pybuild history logs {first.id}\n" in page
    assert "Error:" in page_of(failed) and "Error:" not in page
    assert f"({100 * again.cached // again.total}% cached)" in page_of(again)
    replayed: list[Event] = []
    builder.replay(first, replayed.append)
    assert "[1/1] COPY f /d/" in names(replayed)
    assert len(builder.reports(everything=True)) == 3
    assert len(builder.reports(everything=False)) == 1
    builder.forget([first])
    assert [one.id for one in builder.builds()] == [failed.id, again.id]
    with pytest.raises(UserError, match=f"the log of build {first.id} is gone"):
        builder.replay(first, replayed.append)
    assert sum(one.size for one in builder.usage(())) > 0
    assert builder.usage(["id=nothing"]) == []
    with Store.open(tmp_path / "store", FakeClock()) as store:
        archive = str(tmp_path / "app.tar")
        save_images(store, ["app:1", "docker.io/library/app:1"], archive, None, is_oci=True)
        with pytest.raises(UserError, match="no such image"):
            save_images(store, ["other:1"], archive, None, is_oci=True)
        store.images.untag(str(app))
        (line,) = load_archive(store, archive)
        assert "app:1" in line
        found = store.images.resolve("app:1")
        assert found is not None and found.digest == result.image.digest
    freed: list[object] = []
    assert builder.prune(Policy(all=True), freed.append) > 0 and freed
    assert builder.facts().version.endswith(" pybuild") and builder.facts().platforms


def test_questions_need_no_store(builder: LocalBuilder, context: Path, tmp_path: Path) -> None:
    request = BuildRequest(context=str(context))
    for question in Question:
        assert builder.answer(question, request) is not None
    text = b"from scratch as A\nCOPY f /\n"
    answer = builder.answer(Question.CHECK, replace(request, dockerfile_text=text))
    assert "StageNameCasing" in repr(answer)
    with pytest.raises(UserError, match="unknown instruction: BLA"):
        builder.answer(Question.OUTLINE, replace(request, dockerfile_text=b"FROM scratch\nBLA\n"))
    with pytest.raises(UserError, match="none"):
        builder.answer(Question.OUTLINE, replace(request, target="none"))
    assert not (tmp_path / "store").exists()


def test_a_context_comes_by_standard_input(
    builder: LocalBuilder, context: Path, tmp_path: Path
) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name in ("Dockerfile", "f"):
            archive.add(context / name, arcname=name)
    place = tmp_path / "stdin"
    place.write_bytes(data.getvalue())
    out = parse_output(f"type=local,dest={tmp_path}/out")
    events: list[Event] = []
    kept = os.dup(0)
    try:
        with place.open("rb") as file:
            os.dup2(file.fileno(), 0)
        builder.build(BuildRequest(context="-", outputs=(out,)), events.append)
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert (tmp_path / "out/d/f").read_text() == "text"
    assert "[internal] load build context from standard input" in names(events)


def test_values_of_a_request_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_allowed(["network.host", "device=a"]) == {"network.host", "device=a"}
    with pytest.raises(UsageError, match='unknown entitlement "network.hots".*network.host'):
        parse_allowed(["network.hots"])
    assert parse_contexts(["A=b", "c=d=e"]) == {"a": "b", "c": "d=e"}
    for item in ("a", "=b", "a="):
        with pytest.raises(UsageError, match=f'invalid build context "{item}": expected'):
            parse_contexts([item])
    with pytest.raises(UsageError, match='the name "Context" is reserved'):
        parse_contexts(["Context=x"])
    place = tmp_path / "secret"
    place.write_bytes(b"value")
    one = parse_secret(f"id=a,src={place}")
    assert (one.id, one.read(), one.in_key) == ("a", b"value", False)
    monkeypatch.setenv("VARIABLE", "of the environment")
    assert parse_secret("id=a,env=VARIABLE").read() == b"of the environment"
    assert parse_secret("id=VARIABLE").read() == b"of the environment"
    counted = parse_secret(f"id=a,src={place},key=true")
    place.write_bytes(b"other")
    assert counted.in_key and counted.read() == b"value" and one.read() == b"other"
    for text in ("src=a", "id=a,colour=red", "id=a,type=x"):
        with pytest.raises(UsageError, match=f'invalid secret "{text}": expected id=NAME'):
            parse_secret(text)
    with pytest.raises(UsageError, match="environment variable NOWHERE is not set"):
        parse_secret("id=a,env=NOWHERE")
    with pytest.raises(UsageError, match="no such file"):
        parse_secret(f"id=a,src={tmp_path}/none")
    with pytest.raises(UsageError, match="no regular file"):
        parse_secret(f"id=a,src={tmp_path}")
    place.write_bytes(bytes(500 * 1024))
    assert len(parse_secret(f"id=a,src={place}").read()) == 500 * 1024
    place.write_bytes(bytes(500 * 1024 + 1))
    with pytest.raises(UsageError, match="larger than 500 KiB"):
        parse_secret(f"id=a,src={place}")
    place.write_bytes(b"$VARIABLE")
    assert parse_secret("id=a,type=env,src=VARIABLE").read() == b"of the environment"
