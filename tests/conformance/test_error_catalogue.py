"""Each error of the catalogue comes with its text [spec section 17, and the errors of section 18].

Those that a builder shows only while it runs have their tests with the room that raises them: images
and registries in ``tests/registry/test_auth.py`` and ``tests/e2e/test_registry_access.py``,
entitlements in ``tests/executor/test_runner.py``, failing steps in ``tests/executor/test_sandbox.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.executor.steps.execop import Tail, check_exit, loss_warning
from pybuild.executor.steps.spec import StepExit
from pybuild.model.errors import StepError, UserError
from pybuild.model.ops import ExecOp
from pybuild.model.platform import LINUX_AMD64, Platform
from tests.frontend.lowering import build

_SHA = "sha256:" + "0" * 64

# Spec id, what stands behind "FROM a\n" (or the whole file, if it has a FROM), the message.
_ERRORS = [
    ("IN-3", "RUN " + "x" * 65_536, "line greater than max allowed size of 65535"),
    ("IN-4", "# only\n#comments\nFROM", "FROM requires either one or three arguments"),
    ("IN-6", "FNTRYPOINT x", "unknown instruction: FNTRYPOINT (did you mean ENTRYPOINT?)"),
    (
        "E8 DIR-3",
        "# escape=\\\n# ESCAPE=\\\nFROM a",
        "only one escape parser directive can be used",
    ),
    ("DIR-4", "# escape=x\nFROM a", "invalid escape token 'x' does not match ` or \\"),
    ("DIR-7", "# check=foo=bar\nFROM a", "invalid check option"),
    ("FLG-3", "COPY --link=x a b", "expecting boolean value for flag --link, not: x"),
    ("FLG-4", "COPY --chown a b", "missing a value on flag: --chown"),
    ("FLG-4", "RUN --mont=x y", "unknown flag: --mont (did you mean mount?)"),
    ("E17 FLG-4", "COPY --chown=a --chown=b x y", "duplicate flag specified: --chown"),
    ("FLG-6", "ONBUILD --x RUN y", "unknown flag: --x"),
    (
        "E31 FRM-3",
        'CMD ["a", 1]',
        "when using JSON array syntax, arrays must be comprised of strings",
    ),
    ("FRM-6", "SHELL []", "SHELL requires at least one argument"),
    (
        "E40 KV-2",
        "ENV a=b c",
        'Syntax error - can\'t find = in "c". Must be of the form: name=value',
    ),
    ("KV-3", "ENV a", "ENV must have two arguments"),
    ("E43 KV-4", "ENV =x", "ENV names can not be blank"),
    ("E19 KV-4", "ENV", "ENV requires at least one argument"),
    ("E20 FROM-1", "FROM a b", "FROM requires either one or three arguments"),
    ("E36 EXP-5", 'COPY "my file" /d/', "while looking for matching double-quote"),
    ("EXP-5", "WORKDIR 'a", "unexpected end of statement while looking for matching single-quote"),
    ("EXP-7", "WORKDIR ${}", "syntax error: bad substitution"),
    ("E78 EXP-7", "WORKDIR ${x", "syntax error: missing '}'"),
    ("E67 EXP-10", "WORKDIR ${x:?need it}", "x: need it"),
    ("EXP-10", "WORKDIR ${x?}", "x: is not allowed to be unset"),
    ("EXP-10", "ARG x=\nWORKDIR ${x:?}", "x: is not allowed to be empty"),
    ("EXP-12", "WORKDIR ${x/a}", "syntax error: missing '/' in ${}"),
    ("EXP-13", "ARG x=a\nWORKDIR ${x#\\x}", "in substitution: invalid escape '\\x'"),
    ("E74 EXP-15", "WORKDIR ${x:=d}", "unsupported modifier (:=) in substitution"),
    ("E74 EXP-15", "WORKDIR ${x^^}", "unsupported modifier (^) in substitution"),
    (
        "EXP-20",
        "COPY --from=$X a b",
        "variable expansion is not supported for --from, define a new",
    ),
    ("HD-4", "RUN <<E\nx", "unterminated heredoc"),
    ("HD-7", "COPY x <<E\nE", "COPY cannot accept a heredoc as a destination"),
    (
        "FROM-2",
        "FROM a AS 1x",
        'invalid name for build stage: "1x", name can\'t start with a number',
    ),
    (
        "E99 FROM-5",
        "FROM a AS x\nCOPY --from=1 a b\nFROM a\nFROM x",
        'cannot copy from stage "1", it needs to be defined before current stage "x"',
    ),
    ("FROM-7", "COPY --from=7 a b", "invalid stage index 7"),
    ("E97 FROM-8", "FROM $X", "base name ($X) should not be blank"),
    ("FROM-8", "FROM --platform=$X a", "empty platform value from expression $X"),
    ("FROM-8", "FROM --platform=a/b/c/d a", "failed to parse platform a/b/c/d"),
    ("FROM-13", "FROM a AS x\nCOPY --from=x a b", "circular dependency detected on stage: x"),
    (
        "MNT-1",
        "RUN --mount=type=tmp,target=/x y",
        'unsupported mount type "tmp" (did you mean tmpfs?)',
    ),
    ("MNT-2", "RUN --mount=target=/ y", 'invalid mount target "/"'),
    (
        "MNT-4",
        "RUN --mount=from=$X,target=/x y",
        "'from' doesn't support variable expansion, define",
    ),
    ("MNT-4", "RUN --mount=type=secret,id=a,from=b y", "secret mount should not have a from"),
    ("MNT-7", "RUN --mount=sharing=locked,target=/x y", "invalid cache sharing set for bind mount"),
    ("MNT-8", "RUN --mount=mode=1,target=/x y", 'mode not allowed for "bind" type mounts'),
    ("MNT-12", "RUN --mount=x y", "invalid field 'x' must be a key=value pair"),
    (
        "MNT-12",
        "RUN --mount=typ=tmpfs y",
        "unexpected key 'typ' in 'typ=tmpfs' (did you mean type?)",
    ),
    (
        "MNT-12",
        "RUN --mount=required,type=secret y",
        "unexpected key 'required' for mount type 'bind'",
    ),
    ("E191", "RUN --mount=size=1m,type=tmpfs y", "unexpected key 'size' for mount type 'bind'"),
    ("MNT-18", "RUN --mount=type=secret y", "invalid secret mount. one of source, target required"),
    ("MNT-18", "RUN --mount=type=secret,id=a,src=b y", "both source and id can't be set"),
    ("MNT-20", "RUN --mount=type=ssh,src=a y", "ssh does not support source"),
    ("RUN-5", "RUN --network=x y", 'invalid network mode "x"'),
    ("RUN-6", "RUN --security=x y", 'security "x" is not valid'),
    (
        "CP-1",
        "COPY a",
        "COPY requires at least two arguments, but only one was provided. Destination",
    ),
    ("E135 CP-21", "FROM scratch\nCOPY --chown=nobody f /", "invalid user index: -1"),
    (
        "CP-22",
        "COPY --chmod=64a a b",
        "invalid chmod parameter: '64a'. it should be octal string and",
    ),
    (
        "ADD-5",
        f"ADD --checksum={_SHA} http://h/a http://h/b /",
        "checksum can't be specified for mult",
    ),
    ("E148 ADD-5", f"ADD --checksum={_SHA} f /", "checksum requires HTTP(S) or Git sources"),
    ("ADD-7", "ADD https://h/r.git?ref=a&branch=b /", "ref conflicts"),
    ("ADD-7", "ADD https://h/r.git?tag=a&branch=a /", "branch conflicts with tag"),
    ("ADD-7", "ADD https://h/r.git?ref= /", 'query "ref" has no value'),
    ("ADD-7", "ADD https://h/r.git?x=y /", 'unexpected query "x"'),
    (
        "ADD-8",
        "ADD --keep-git-dir=false https://h/r.git?keep-git-dir=true /",
        "inconsistent keep-git",
    ),
    ("ADD-10", "COPY https://h/a /", "source can't be a URL for COPY"),
    ("ADD-10", "COPY https://h/r.git /", "source can't be a git ref for COPY"),
    ("E47 SH-1", "SHELL /bin/bash -c", "SHELL requires the arguments to be in JSON form"),
    ("E48 VOL-1", 'VOLUME ["/a", ""]', "VOLUME specified can not be an empty string"),
    ("EXP-P1", "EXPOSE /tcp", 'invalid port: "/tcp"'),
    ("EXP-P1", "EXPOSE 70000", "invalid containerPort: 70000"),
    ("EXP-P1", "EXPOSE 1/x", "invalid proto: x"),
    ("E51", 'ENV P="80 81"\nEXPOSE "$P"', "invalid containerPort: 80 81"),
    ("SIG-1", "STOPSIGNAL SIGX", "invalid signal: SIGX"),
    ("HC-2", "HEALTHCHECK FOO x", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
    ("HC-2", "HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
    ("HC-2", "HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
    ("E52 HC-2", "HEALTHCHECK --interval=500us CMD x", "cannot be less than 1ms"),
    ("HC-2", "HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
    ("OB-1", "ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ("OB-1", "ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
]


@pytest.mark.parametrize(
    ("text", "message"),
    [pytest.param(text, message, id=f"{i} {text[:40]}") for i, text, message in _ERRORS],
)
def test_the_language_says_it_in_these_words(text: str, message: str) -> None:
    whole = (
        text
        if "FROM " in text.partition("ONBUILD")[0] or text.endswith("FROM")
        else "FROM a\n" + text
    )
    with pytest.raises(UserError) as caught:
        build(whole + "\n")
    assert message in caught.value.message
    assert caught.value.spans or "check" in message, "no line is named"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile cannot be empty"),
        ("# x\n\n", "file with no instructions"),
        ("ARG a\n", "dockerfile contains no stages to build"),
        ("RUN x\nFROM a\n", "no build stage in current context"),
    ],
)
def test_files_without_stages_are_told_apart(text: str, message: str) -> None:  # IN-4
    with pytest.raises(UserError) as caught:
        build(text)
    assert message in caught.value.message


def test_targets_are_names() -> None:  # FROM-10
    for target, message in (
        ("9", 'target stage "9" could not be found'),
        ("0", 'target stage "0" could not be found'),
        ("bulid", 'target stage "bulid" could not be found (did you mean build?)'),
    ):
        with pytest.raises(UserError) as caught:
            build("FROM a AS build\n", target=target)
        assert caught.value.message == message


def test_findings_are_errors_where_the_file_says_so() -> None:  # DIR-7
    with pytest.raises(UserError) as caught:
        build("# check=error=true\nFROM a AS B\nMAINTAINER x\n")
    assert caught.value.message == (
        "lint violation found for rules: MaintainerDeprecated, StageNameCasing"
    )


def test_programs_for_another_machine_get_a_hint() -> None:
    """FROM-9: a platform without an emulator."""
    arm = Platform.parse("linux/arm64", LINUX_AMD64)
    tail = Tail()
    tail.add(b'exec: "/bin/sh": exec format error\n')
    op = ExecOp(args=("/bin/sh",), env=(), cwd="/", mounts=(), platform=arm)
    with pytest.raises(StepError) as caught:
        check_exit(op, StepExit(status=126), tail, ())
    assert caught.value.log_tail == ('exec: "/bin/sh": exec format error',)
    assert caught.value.hints == (
        (
            "programs for linux/arm64 need an emulator here: install qemu-user-static and "
            "binfmt-support (pybuild doctor shows which are registered)"
        ),
    )


def test_programs_that_this_machine_would_run_are_no_matter_of_emulators() -> None:
    tail = Tail()
    tail.add(b'exec: "/run": exec format error: no program, and no script with a first line #!\n')
    native = Platform.make("linux", os.uname().machine)
    op = ExecOp(args=("/run",), env=(), cwd="/", mounts=(), platform=native)
    with pytest.raises(StepError) as caught:
        check_exit(op, StepExit(status=126), tail, ())
    assert caught.value.hints == (
        "the file is a program for another platform, or a script whose first line is not like #!/bin/sh",
    )


def test_a_process_that_is_killed_inside_a_pipe_is_a_warning() -> None:
    op = ExecOp(args=("/run",), env=(), cwd="/", mounts=(), platform=LINUX_AMD64)
    assert loss_warning(op, StepExit(status=0)) == ""
    assert loss_warning(op, StepExit(status=0, oom_killed=True, peak_memory_bytes=1 << 25)) == (
        "a process of this step was killed for want of memory, yet the step succeeded, and its result "
        "is kept: the kernel killed it because memory ran out: give the machine more; it had 32 MiB"
    )


def test_a_missing_dockerfile_is_named(tmp_path: Path) -> None:  # IN-1
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pybuild", "build", "--check", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: failed to read dockerfile: open Dockerfile: no such file or directory\n"
    )


@pytest.mark.slow
def test_an_error_shows_its_lines(tmp_path: Path) -> None:  # IN-5
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nRUN a \\\n  b\nRUN --mont=x \\\n  c\n# d\n# e\n# f\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pybuild", "build", "--check", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr.splitlines()[1:] == [
        "Dockerfile:4",
        "   2 |     RUN a \\",
        "   3 |       b",
        "   4 | >>> RUN --mont=x \\",
        "   5 | >>>   c",
        "   6 |     # d",
        "   7 |     # e",
    ]
