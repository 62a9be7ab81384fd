"""Builds that have been, as pages, traces, tables and differences: those of this machine and of a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
TEXT = "FROM base AS a\nARG V\nRUN echo said $V; sleep 0.$V\nFROM base\nCOPY --from=a /etc /x\nRUN exit $(cat /code || echo 0)\n"


@pytest.mark.parametrize("where", ["here", "there"])
def test_a_build_is_shown_compared_and_asked_about(
    where: str, pybuild: Pybuild, base: str, remote: Remote, tmp_path: Path
) -> None:
    assert base
    builder = pybuild if where == "here" else remote
    context = write(tmp_path / "c", Dockerfile=TEXT)
    for value in ("1", "7"):
        builder("build", "-o", "type=cacheonly", "--build-arg", f"V={value}", context)
    last, first = builder("history", "ls", "-q").out.split()[:2]

    changes = builder("history", "compare", first).out.splitlines()
    assert changes[0].split() == ["STEP", first, last, "CHANGE"]
    assert changes[1].startswith("[a] RUN echo said")

    page = tmp_path / "page.html"
    builder("report", "-o", page)
    text = page.read_text()
    assert "said 7" in text
    assert "because ARG V was &quot;1&quot;, is &quot;7&quot;" in text

    document = json.loads(builder("history", "trace", first).out)
    slow = [one for one in document["traceEvents"] if "RUN echo said" in one["name"]]
    assert [one["cat"] for one in slow] == ["ran"]
    assert slow[0]["dur"] >= 100_000

    question = (
        "select args.value, why from steps join args using (build) "
        f"where steps.name like '%echo said%' and build in ('{first}', '{last}') order by 1 desc"
    )
    rows = [
        json.loads(line)
        for line in builder("history", "sql", "--format", "json", question).out.splitlines()
    ]
    assert [row["value"] for row in rows] == ["7", "1"]
    assert rows[0]["why"].startswith('because ARG V was "1", is "7"')


def test_a_step_has_the_processor_time_and_memory_that_it_took(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    command = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; head -c 20000000 /dev/zero | tail -c 19000000 > /dev/null"
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN {command}\n")
    pybuild("build", "-o", "type=cacheonly", context)
    question = "select cpu_seconds, peak_memory_bytes from steps where name like '%RUN%' order by build desc limit 1"
    row = json.loads(pybuild("history", "sql", "--format", "json", question).out)
    assert row["cpu_seconds"] >= 0.01
    assert row["peak_memory_bytes"] >= 15_000_000
    assert '<th class="number">processor</th>' in pybuild("report").out


def test_a_cached_build_that_kept_no_log_has_a_page_and_a_trace(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    for _ in range(3):
        pybuild("build", context)
    assert "from the cache" in pybuild("report").out
    assert json.loads(pybuild("history", "trace", "--format", "otlp").out)["resourceSpans"]


def test_what_cannot_be_done_is_said_in_a_line(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    empty = Pybuild(tmp_path / "empty")
    assert "no build is known here" in empty("report", code=1).err
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN true\n")
    pybuild("history", "rm", "--all")
    pybuild("build", context)
    assert "there are only 1 builds" in pybuild("history", "compare", code=1).err
    missing = tmp_path / "none" / "page.html"
    refused = pybuild("report", "-o", missing, code=2).err
    assert f"error: output directory {missing.parent} does not exist\n" in refused
    assert f"hint: make it: mkdir -p {missing.parent}\n" in refused
    sink = tmp_path / "sink"
    sink.symlink_to("/dev/null")
    pybuild("report", "-o", sink)
    assert sink.is_symlink()
    assert "takes one question" in pybuild("history", "sql", code=2).err
    assert (
        "the tables are builds; steps; args; images; tags"
        in pybuild("history", "sql", "x", code=1).err
    )
    assert pybuild("history", "sql", "--schema").out.startswith("CREATE TABLE builds")
    assert 'invalid format "x"' in pybuild("history", "trace", "--format", "x", code=2).err
