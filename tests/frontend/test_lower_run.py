"""RUN as it is lowered: command, environment, here-documents."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    ExecOp,
    FileOp,
    Mkfile,
    Mount,
    SecurityMode,
    StepSettings,
)
from pybuild.model.resources import Resources
from tests.frontend.lowering import PATH, build, execs, image, named, texts
from tests.frontend.runs import ROOT, run

# --- RUN ------------------------------------------------------------------------------------------


def test_run_has_all_that_counts() -> None:
    steps = StepSettings(
        add_hosts=(("h", "1.2.3.4"),),
        ulimits=(("nofile", 1, 2),),
        shm_size_bytes=5,
        resources=Resources(cpu_shares=2),
    )
    op = run(
        'echo "$A"',
        'ENV E=1\nARG A=2\nUSER u\nWORKDIR /w\nSHELL ["/bin/bash", "-c"]',
        steps=steps,
        build_args={"BUILDKIT_SANDBOX_HOSTNAME": "box"},
    )
    assert op == ExecOp(
        args=("/bin/bash", "-c", 'echo "$A"'),
        env=(PATH, "E=1", "A=2"),
        cwd="/w",
        user="u",
        mounts=(ROOT,),
        platform=op.platform,
        settings=replace(steps, hostname="box"),
    )


def test_exec_form_is_left_alone() -> None:
    assert run('["echo", "$A", "b c"]').args == ("echo", "$A", "b c")


def test_environment_is_ordered_by_last_assignment() -> None:
    op = run("x", "ENV A=1 B=2\nARG C=3\nENV A=4", images={"a": image(Env=["PATH=/p", "Z=9"])})
    assert op.env == ("PATH=/p", "Z=9", "B=2", "C=3", "A=4")


def test_env_of_the_base_stage_comes_back_in_its_child() -> None:
    op = execs(build("FROM a AS one\nENV V=x\nARG V=y\nARG W=w\nFROM one\nRUN id\n"))[0]
    assert op.env == ("W=w", PATH, "V=x")


def test_security_modes() -> None:  # RUN-6
    assert run("--security=insecure x").security is SecurityMode.INSECURE
    assert run("--security=sandbox x").security is SecurityMode.SANDBOX
    with pytest.raises(UserError, match='security "x" is not valid'):
        run("--security=x y")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--network=lan", 'invalid network mode "lan"'),
    ],
)
def test_run_flags_that_cannot_be(flag: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build(f"FROM a\n\nRUN {flag} x\n")
    assert caught.value.spans[0].first_line == 3


# --- here-documents of RUN ------------------------------------------------------------------------


def test_lone_heredoc_is_the_shells_argument() -> None:  # HD-8, E170, E172
    assert run("<<EOF\nfalse\necho $ok\nEOF").args == ("/bin/sh", "-c", "false\necho $ok\n")
    op = run("<<-'EOF'\n\t\tprint(1)\nEOF", 'SHELL ["python3", "-c"]')
    assert op.args == ("python3", "-c", "print(1)\n")


def test_lone_heredoc_with_interpreter_is_a_mounted_script() -> None:  # E171
    lowered = build("FROM a\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n")
    op = execs(lowered)[0]
    assert op.args == ("/bin/sh", "-c", "/dev/pipes/EOF")
    assert op.mounts == (ROOT, Mount(target="/dev/pipes", input=1, readonly=True))
    script = lowered.result.inputs[1]
    data = b"#!/usr/bin/env python3\nprint(1)\n"
    assert script.op == FileOp(actions=(Mkfile(path="/EOF", data=data, mode=0o755),))
    assert texts(lowered) == ["+ RUN /bin/sh -c /dev/pipes/EOF # buildkit"]
    assert named(lowered)[-1] == "[2/2] RUN <<EOF (#!/usr/bin/env python3...)"


def test_other_heredocs_are_handed_to_the_shell() -> None:  # HD-9, E173
    op = run("cat <<-A 3<<B > /x\n\ta\n\tA\nb\nB")
    assert op.args[-1] == "cat <<-A 3<<B > /x\n\ta\nA\nb\nB"
    assert run("python <<EOF\nx\nEOF").args[-1] == "python <<EOF\nx\nEOF"


def test_script_cannot_leave_its_directory() -> None:
    lowered = build('FROM a\nRUN <<"../../x"\n#!/bin/sh\n../../x\n')
    assert execs(lowered)[0].args == ("/bin/sh", "-c", "/dev/pipes/x")
    with pytest.raises(UserError, match=r'"\.\." cannot be the name of a script'):
        build("FROM a\nRUN <<..\n#!/bin/sh\n..\n")
