"""``pybuild history``: the builds of this machine, with their logs, as docker's history shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.harness import Pybuild, make_base, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Pybuild:
    """A store in which a build went well, one failed in a step, and one has no Dockerfile to speak of."""
    folder = tmp_path_factory.mktemp("history")
    pybuild = Pybuild(folder / "store")
    make_base(pybuild, folder / "base", "base")
    for context, text, code in (
        ("good", "FROM base AS made\nRUN echo it is well\n", 0),
        ("bad", "FROM base\nRUN echo before the end; exit 7\n", 1),
        ("none", "FRM base\n", 1),
    ):
        write(folder / context, Dockerfile=text)
        words = ["--target", "made"] if context == "good" else []
        pybuild("build", "-t", context, *words, folder / context, code=code)
    return pybuild


def test_builds_are_listed_the_latest_first_with_how_they_went(built: Pybuild) -> None:
    head, *rows = built("history", "ls").out.splitlines()
    assert head.split("  ")[0] == "BUILD ID"
    assert [row.split()[1] for row in rows] == ["none", "bad", "good", "base"]
    assert ["Error" in row for row in rows] == [True, True, False, False]
    assert "good (made)   Completed" in rows[2]
    assert built("buildx", "history", "ls").out.split()[:4] == head.split()[:4]
    first = json.loads(built("history", "ls", "--format", "json").out.splitlines()[0])
    assert (first["ref"], first["status"], first["completed_steps"]) == (rows[0][:8], "Error", 1)
    ids = built("history", "ls", "-q").out.split()
    assert ids == [row[:8] for row in rows]


def test_a_log_has_all_that_the_build_said(built: Pybuild) -> None:
    good = built("history", "logs", "^2").out
    assert "] RUN echo it is well\n" in good
    assert " it is well\n" in good
    assert "naming to docker.io/library/good:latest done" in good
    bad = built("history", "logs", built("history", "ls", "-q").out.split()[1]).out
    assert " before the end\n" in bad
    assert "exit code: 7" in bad
    assert built("history", "logs").out.endswith("unknown instruction: FRM (did you mean FROM?)\n")


def test_a_log_is_there_for_programs_too(built: Pybuild) -> None:
    lines = built("history", "logs", "--progress", "rawjson", "^2").out.splitlines()
    names = [vertex["name"] for line in lines for vertex in json.loads(line).get("vertexes", ())]
    assert any(name.endswith("RUN echo it is well") for name in names)


def test_an_image_whose_name_is_a_verb_has_its_history_with_the_images(built: Pybuild) -> None:
    built("tag", "good", "ls")
    assert "echo it is well" in built("image", "history", "--no-trunc", "ls").out
    assert "echo it is well" in built("history", "--no-trunc", "good").out


def test_a_fully_cached_build_is_a_build_too(built: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "again", Dockerfile="FROM base\nRUN echo once\n")
    built("build", "-t", "again", context)
    built("build", "-t", "again", context)
    first, second = (
        json.loads(built("history", "inspect", "--format", "json", place).out)
        for place in ("^1", "^0")
    )
    assert first["NumCachedSteps"] < second["NumCachedSteps"] < second["NumTotalSteps"]
    assert first["ImageID"] == second["ImageID"]
    assert (second["Name"], second["Status"]) == ("again", "completed")
    log = built("history", "logs").out
    assert "RUN echo once\n" in log
    assert " CACHED\n" in log
    assert "RUN echo once" in built("explain").out  # of the build in which something ran
    built("history", "rm", "^0", "^1")


def test_nothing_secret_is_in_the_history(built: Pybuild, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("the-mounted-secret\n")
    text = (
        "FROM base\nARG API_TOKEN\nARG OPEN\n"
        "RUN --mount=type=secret,id=key cat /run/secrets/key; echo $API_TOKEN $OPEN\n"
        "RUN --mount=type=secret,id=key,env=KEY echo $KEY; exit 3\n"
    )
    context = write(tmp_path / "secret", Dockerfile=text)
    words = ["--secret", f"id=key,src={tmp_path}/key", "--build-arg", "OPEN=seen"]
    built("build", *words, "--build-arg", "API_TOKEN=the-token-itself", context, code=1)
    data = b"".join(file.read_bytes() for file in (built.store / "builds").iterdir())
    assert b"the-mounted-secret" not in data
    assert b"the-token-itself" not in data
    assert "[redacted] seen\n" in built("history", "logs").out
    shown = built("history", "inspect").out
    assert "OPEN" in shown
    assert "> [redacted]\n" in shown
    built("history", "rm", "^0")


def test_a_build_is_inspected_with_its_error_and_the_end_of_its_step(built: Pybuild) -> None:
    shown = built("history", "inspect", "^1").out
    assert shown.startswith("Name:")
    assert "Build Steps:" in shown
    assert "> before the end\n" in shown
    document = json.loads(built("history", "inspect", "--format", "json", "^1").out)
    assert (document["Name"], document["Status"]) == ("bad", "failed")
    assert document["Error"]["Logs"] == ["before the end"]
    good = json.loads(built("history", "inspect", "--format=json", "^2").out)
    assert (good["Target"], good["Status"], good["Error"]) == ("made", "completed", {})
    assert good["NumCompletedSteps"] == good["NumTotalSteps"] > 2
    assert good["ImageID"] == built("images", "-q", "--no-trunc", "good").out.strip()
    template = "{{.Status}} {{.Names}}"
    named = built("history", "inspect", "--format", template, "^2").out
    assert named == "completed [docker.io/library/good:latest]\n"


def test_builds_are_filtered_and_forgotten(built: Pybuild) -> None:
    failed = built("history", "ls", "-q", "--filter", "status=error").out.split()
    assert len(failed) == 2
    assert not built("history", "ls", "-q", "--filter", "duration>9000h").out
    built("history", "rm", *failed)
    kept = built("history", "ls", "-q").out.split()
    assert len(kept) == 2
    assert not set(kept) & set(failed)
    built("history", "rm", "--all")
    assert built("history", "ls").out.split() == [
        "BUILD",
        "ID",
        "NAME",
        "STATUS",
        "CREATED",
        "AT",
        "DURATION",
    ]
    assert "no build is known here" in built("history", "logs", code=1).err
