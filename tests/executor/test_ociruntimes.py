"""OCI runtimes: finding them, what they are told, and what is told of one that does not work."""

from __future__ import annotations

import asyncio
import json
import os
import re
from pathlib import Path

import pytest

from pybuild.executor.steps import ocibundle, seccompnames
from pybuild.executor.steps.ociruntimes import OciRuntime, find_runtime
from pybuild.executor.steps.spec import ALL_CAPABILITIES, StepSpec
from pybuild.executor.workers.workers import Workers
from pybuild.executor.zygote import seccomp
from pybuild.executor.zygote.faults import Fault
from pybuild.executor.zygote.runtime import last_error, status_of_refusal
from pybuild.model.errors import EnvironmentFault
from tests.executor.sandbox_helpers import Box, make_base, skip_unless_possible
from tests.executor.test_seccomp import ALLOW, ENOSYS, EPERM, I386, X86_64, verdict


def program(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_runtime_that_is_not_there_is_named() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        find_runtime("youki-of-nowhere")
    assert caught.value.message == 'OCI runtime "youki-of-nowhere": not found on PATH'
    with pytest.raises(EnvironmentFault, match='OCI runtime "/no/crun": not found$'):
        find_runtime("/no/crun")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo no such library >&2; exit 127", "ended with status 127: no such library"),
        ("exit 0", "ended with status 0 and said nothing"),
        ("echo hello", "ended with status 0: hello"),
    ],
)
def test_a_program_that_is_no_runtime_is_quoted(tmp_path: Path, script: str, message: str) -> None:
    path = program(tmp_path / "odd", script)
    with pytest.raises(EnvironmentFault, match=re.escape(message)):
        find_runtime(path)


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(EnvironmentFault, match='data" does not start: permission denied'):
        find_runtime(str(tmp_path / "data"))


def test_a_runtime_tells_what_it_is(tmp_path: Path) -> None:
    found = find_runtime(program(tmp_path / "x", "echo 'youki version 0.5.4'; echo commit: 1"))
    assert (found.name, found.version, found.options) == ("youki", "0.5.4", ())


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.sandbox
def test_a_runtime_that_fails_is_quoted_in_the_error(tmp_path: Path) -> None:
    skip_unless_possible()
    script = """
case $1 in --version) echo runc version 9;; *)
echo '{"level":"error","msg":"this kernel is too old"}' >> "$4"; exit 1;; esac
"""
    workers = Workers(runtime=program(tmp_path / "runc", script))
    box = Box(tmp_path, (make_base(tmp_path / "base"),), workers)
    try:
        with pytest.raises(EnvironmentFault) as caught:
            box.run("true")
    finally:
        asyncio.run(workers.close())
    assert caught.value.message == "runc did not start the step: this kernel is too old"
    assert caught.value.hints == ("leave --runtime away: steps have a sandbox of ours",)


def test_a_bundle_says_what_the_sandbox_does() -> None:
    spec = StepSpec(
        lowers=(), upper="/u", work="/w", args=("id",), env=("A=1", "PATH=/x", "A=2"), readonly=True
    )
    config = ocibundle.config(spec)
    assert config["process"]["env"] == ["A=2", "PATH=/x"]
    assert config["root"] == {"path": "/w/root", "readonly": True}
    kinds = {namespace["type"] for namespace in config["linux"]["namespaces"]}
    assert kinds == {"pid", "ipc", "uts", "mount"}  # the others are the step's own already
    assert "/proc/kcore" in config["linux"]["maskedPaths"]
    insecure = ocibundle.config(
        StepSpec(lowers=(), upper="/u", work="/w", args=("id",), security="insecure")
    )
    assert not {"seccomp", "maskedPaths", "readonlyPaths"} & set(insecure["linux"])


@pytest.mark.parametrize("rung", ["userns-single", "chroot"])
def test_no_runtime_runs_where_it_would_make_another_image(rung: str) -> None:
    spec = StepSpec(lowers=(), upper="/u", work="/w", args=("id",))
    with pytest.raises(EnvironmentFault, match="^crun cannot run steps here: ") as caught:
        ocibundle.order(spec, OciRuntime("/usr/bin/crun", "crun", "1.8"), rung)
    assert caught.value.hints


def test_capabilities_are_in_the_kernels_order() -> None:
    numbers = {name: number for number, name in enumerate(ALL_CAPABILITIES)}
    assert numbers["CAP_SYS_ADMIN"] == 21
    assert numbers["CAP_SETFCAP"] == 31
    assert numbers["CAP_CHECKPOINT_RESTORE"] == 40


@pytest.mark.parametrize(
    ("header", "arch"), [("unistd_64.h", X86_64), ("unistd_32.h", I386)], ids=["64", "32"]
)
def test_names_and_numbers_of_the_filter_say_the_same(header: str, arch: int) -> None:
    """[SBX-8]"""
    path = Path("/usr/include/x86_64-linux-gnu/asm") / header
    if os.uname().machine != "x86_64" or not path.exists():
        pytest.skip("needs the kernel's headers for x86_64 (apt install linux-libc-dev)")
    code = seccomp.program("x86_64")
    by_argument = {"clone", "clone3", "personality", "setsockopt", "socket", "socketcall"}
    wrong: list[str] = []
    for line in path.read_text().splitlines():
        found = re.match(r"#define __NR_(\w+) (\d+)$", line)
        if found is None or found[1] in by_argument:
            continue
        said, _ = verdict(code, arch, int(found[2]))
        if found[1] in seccompnames.ALLOWED:
            agrees = said == ALLOW
        elif found[1] in seccompnames.REFUSED:
            agrees = said == EPERM
        else:  # never implemented, so that either answer is as good
            agrees = said in (EPERM, ENOSYS)
        if not agrees:
            wrong.append(found[1])
    assert wrong == []


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("exec /x: no such file or directory", 127),
        ("Exec /x: Permission denied", 126),
        ("exec /x: exec format error", 126),
        ("open executable: Operation not permitted", 126),
    ],
)
def test_a_program_that_cannot_be_executed_has_a_shells_status(message: str, status: int) -> None:
    assert status_of_refusal(message, "runc", 1, 0) == status


@pytest.mark.parametrize(
    ("message", "pids", "shown", "hints"),
    [
        ("", 0, "runc did not start the step: status 3, without a word", 1),
        ("cgroup: permission denied", 0, "runc did not start the step: cgroup: permission denied", 1),
        ("exec: out of memory", 5, "runc did not start the step: exec: out of memory", 2),
    ],
)  # fmt: skip
def test_another_fault_is_the_runtimes(message: str, pids: int, shown: str, hints: int) -> None:
    with pytest.raises(Fault) as caught:
        status_of_refusal(message, "runc", 3, pids)
    assert str(caught.value) == shown
    assert len(caught.value.hints) == hints
    assert caught.value.hints[-1] == "leave --runtime away: steps have a sandbox of ours"
    if pids:
        assert caught.value.hints[0] == "runc's own threads count among pids=5: allow more"


def test_the_last_error_of_a_runtimes_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_error(str(log)) == ""
    lines = [
        {"level": "error", "msg": "first"},
        {"level": "fatal", "msg": " second \n"},
        {"level": "warning", "msg": "third"},
        {"level": "error"},
    ]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines[:3]))
    assert last_error(str(log)) == "second"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert last_error(str(log)) == '{"level": "error"}'
    log.write_text("no JSON\n")
    assert last_error(str(log)) == "no JSON"
    log.write_text("x" * 5000)
    assert len(last_error(str(log))) == 4000
