"""``pybuild -H``: told, cancelled and chosen as builds in this process; certificates."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.daemon.buildsites import Daemon, daemon
from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Done, Pybuild, leftovers, write
from tests.needs import needs
from tests.ports import free_ports
from tests.registry.servers import Authority

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


# --- how it is told -------------------------------------------------------------------------------


def told(done: Done) -> list[str]:
    """Return status and texts, without the directory of the configuration: each builder names its own file."""
    texts = (str(done.code), done.out, done.err)
    return [re.sub(r"[^\s\"]*/pybuild\.toml", "pybuild.toml", text) for text in texts]


@needs("nft")  # or its steps say that they have the machine's network
@pytest.mark.parametrize(
    "text",
    [
        "FROM base\n\nRUN echo out && \\\n echo err >&2 && exit 3\n",
        "FROM base\nRUN nosuchcommand\n",
        "FROM base\nRUNN true\n",
        "FROM base AS a\nCOPY --from=b / /\n",
        "FROM base\nCOPY --chwn=1 a b\n",
        "FROM 127.0.0.1:1/none:1\n",
    ],
    ids=["step", "hint", "syntax", "stage", "option", "registry"],
)
def test_errors_are_those_of_a_build_in_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path, text: str
) -> None:
    """Text, excerpt, last words of a step, hints, exit status."""
    context = write(tmp_path / "c", Built=text)
    words = ("build", "--progress", "none", "-f", context / "Built", context)
    here, there = pybuild(*words, code=None), remote(*words, code=None)
    assert told(there) == told(here)
    assert there.code and "Built:" in there.err


def test_outputs_that_cannot_be_written_here_fail_as_in_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\n")
    words = ("build", "--progress", "none", "-o", "/proc/nothing", context)
    here, there = pybuild(*words, code=3), remote(*words, code=3)
    assert there.err == here.err and "/proc/nothing: no such file or directory" in here.err


def test_a_path_that_was_not_sent_is_told_without_where_the_server_keeps_it(
    there: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    """[CP-4, IGN-3]"""
    files = {"Dockerfile": "FROM base\nCOPY a.md /\n", "a.md": "x", ".dockerignore": "*.md\n"}
    context = write(tmp_path / "c", **files)
    done = remote("build", "--progress", "none", context, code=1)
    assert 'error: "a.md" is excluded from the context by the ignore file\'s "*.md"' in done.err
    assert 'hint: take that line out, or add "!a.md" below it' in done.err
    assert str(there.store) not in done.err


def test_a_build_is_part_of_the_trace_that_ci_has_begun(
    there: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    """[remote-api 7.6] Its spans are in the server's history, under the trace's id."""
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN echo traced\n")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    blobs = there.store / "history/blobs"

    def traced() -> list[str]:
        lines = [line for path in blobs.iterdir() for line in path.read_bytes().splitlines()]
        spans = [json.loads(line) for line in lines if line.startswith(b'{"Name"')]
        return sorted(s["Name"] for s in spans if s["SpanContext"]["TraceID"] == trace)

    remote("build", "-q", context, env={"TRACEPARENT": "no trace"})
    assert traced() == []
    remote("build", "-q", context, env={"TRACEPARENT": f"00-{trace}-00f067aa0ba902b7-01"})
    assert {"[2/2] RUN echo traced", "moby.buildkit.v1.Control/Solve"} <= set(traced())


LINTED = "FROM base AS Build\nARG a=1\nRUN echo $b\nMAINTAINER me\n"


def test_warnings_are_those_of_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=LINTED)
    words = ("build", "--progress", "plain", "-t", "app", context)
    told = remote(*words).err.partition(" warnings found:")[2].partition("\nimage ")[0]
    here = pybuild(*words).err.partition(" warnings found:")[2].partition("\nimage ")[0]
    assert told == here and "MaintainerDeprecated" in told


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("check", LINTED),
        ("check,format=json", LINTED),
        ("check,ignorestatus", LINTED),
        ("check", "FROM base\nRUNN x\n"),
        ("check,format=json", "FROM base\nRUNN x\n"),
        ("check", "FROM 127.0.0.1:1/none:1\nMAINTAINER me\n"),
        ("check,format=json", "FROM base AS built\nFROM buildt\n"),
        ("outline", "FROM 127.0.0.1:1/none:1\nARG a=1\n"),
        ("outline", LINTED),
        ("outline,format=json", LINTED),
        ("targets", LINTED),
        ("targets,format=json", LINTED),
        ("targets", "FROM base\nRUNN x\n"),
    ],
)
def test_questions_are_answered_as_in_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path, call: str, text: str
) -> None:
    """[UI-6] Text, JSON, errors with their lines and hints, exit status."""
    context = write(tmp_path / "c", Built=text)
    words = ("build", "--call", call, "-f", context / "Built", context)
    here, there = pybuild(*words, code=None), remote(*words, code=None)
    assert told(there) == told(here)
    assert here.out or here.err


def test_progress_is_told_as_ever(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM base\nRUN echo {tmp_path.name}$((6*7))\n")
    plain = remote("build", "--progress", "plain", context).err
    assert f" {tmp_path.name}42\n" in plain and "[2/2] RUN echo" in plain
    assert plain.count("DONE") + plain.count("CACHED") >= 4
    assert "CACHED" in remote("build", "--progress", "plain", context).err
    for line in remote("build", "--progress", "rawjson", context).err.splitlines():
        assert json.loads(line)
    assert remote("build", "--progress", "quiet", context).err == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelling_cancels_the_build_there(
    remote: Remote, there: Pybuild, tmp_path: Path, number: int
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM base\nRUN sleep 60{number}\n")
    with subprocess.Popen(
        remote.command("build", "--progress", "plain", context),
        env=remote.environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"[2/2] RUN sleep" in line:
                break
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(60) == 128 + number
    assert b"CANCELED" in rest
    deadline = time.monotonic() + 60
    while any(f"sleep 60{number}" in text for text in leftovers(there.store)):
        assert time.monotonic() < deadline


def test_nobody_there_is_a_fault_of_the_environment(pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\n")
    done = pybuild("-H", f"unix://{tmp_path}/none", "build", context, code=3)
    assert f"cannot connect to unix://{tmp_path}/none: no such file" in done.err
    assert "expected unix://" in pybuild("-H", "ssh://x", "build", context, code=2).err


# --- builders -------------------------------------------------------------------------------------


def test_a_builder_in_use_builds_and_the_memo_of_this_process_is_not_asked(
    pybuild: Pybuild, server: Daemon, there: Pybuild, tmp_path: Path
) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PYBUILD_HOST": ""}
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    for _ in range(2):  # the second is answered from a memo
        pybuild("build", "-t", "memo", context, env=env)
    pybuild("builder", "add", "--use", "one", server.address, env=env)
    assert "memo" not in there("images").out
    pybuild("build", "-t", "memo", context, env=env)
    assert "memo" in there("images").out


def test_a_builder_tells_of_itself_and_frees_space(
    pybuild: Pybuild, server: Daemon, tmp_path: Path
) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PYBUILD_HOST": "one"}
    pybuild("builder", "add", "--use", "one", server.address, env=env)
    assert "one *" in pybuild("builder", "ls", env=env).out
    seen = pybuild("builder", "inspect", env=env).out
    assert "running" in seen and "linux/" in seen
    assert "Total:" in pybuild("du", env=env).out
    assert "Total:" in pybuild("prune", "-f", "--filter", "id=none", env=env).out
    assert "unknown" in pybuild("du", "--filter", "size=1", env=env, code=2).err


def test_a_server_that_dies_is_a_fault_of_the_environment(there: Pybuild, tmp_path: Path) -> None:
    pybuild = Pybuild(tmp_path / "store", there.config)
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN sleep 63\n")
    with daemon(pybuild, tmp_path) as server:
        words = Remote(tmp_path / "here", host=server.address).command("build", context)
        with subprocess.Popen(
            words, env=pybuild.environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            for line in process.stderr:
                if b"[2/2] RUN sleep" in line:
                    break
            server.kill()
            assert b"lost the build server" in process.stderr.read()
            assert process.wait(60) == 3


def test_tls_with_a_certificate_of_ours(pybuild: Pybuild, tmp_path: Path) -> None:
    """Mutual TLS; without our certificate, or with another authority, nothing is built."""
    for name in ("keys", "others"):
        (tmp_path / name).mkdir()
    keys, others = Authority.make(tmp_path / "keys"), Authority.make(tmp_path / "others")
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    address = f"tcp://127.0.0.1:{free_ports()[0]}"
    mine = ("--tlscert", keys.cert, "--tlskey", keys.key)
    words = ("--addr", address, "--tlscacert", keys.ca, *mine)
    with daemon(Pybuild(tmp_path / "there"), tmp_path, *map(str, words)):
        env = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
        ca = ("--tlscacert", keys.ca)
        pybuild("builder", "add", "safe", address, *ca, *mine, env=env)
        out = tmp_path / "out"
        pybuild("-H", "safe", "build", "-o", out, context, env=env)
        assert (out / "f").read_text() == "x"
        done = pybuild("-H", address, *ca, "build", context, code=3)
        assert "lost the build server: connection closed" in done.err and "--tlscert" in done.err
        wrong = ("--tlscacert", others.ca, *mine)
        assert "certificate" in pybuild("-H", address, *wrong, "build", context, code=3).err
