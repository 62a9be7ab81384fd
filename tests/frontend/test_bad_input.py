"""Hostile files through the real command line: an answer or an error, within bounded memory.

Each child may use 1 GiB of address space and a few seconds of processor time, several times what it
needs on a slow machine; an attack that works takes minutes or all memory.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
START = b"FROM scratch\n"


def _check(context: Path) -> tuple[int, str, str]:
    """Run ``pybuild build --check`` and return its exit code and what it wrote."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (20, 20))

    run = subprocess.run(
        [sys.executable, "-m", "pybuild", "build", "--check", str(context)],
        capture_output=True,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )
    # Strictly: what comes out is text, whatever went in.
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def _expect(context: Path, error: str) -> None:
    status, out, err = _check(context)
    assert status == (1 if error or "WARNING" in out else 0), err
    assert err.startswith(f"error: {error}" if error else ""), err[:500]
    assert "Traceback" not in err
    assert "internal" not in err
    assert len(out) + len(err) < 16 * MIB


def _numbered(template: bytes, count: int) -> bytes:
    return b"".join(template % number for number in range(count))


def _nested(depth: int, *, inner: bytes = b"x", per_line: int = 5000) -> bytes:
    lines = [b"${a:-" * per_line] * (depth // per_line) + [inner]
    lines += [b"}" * per_line] * (depth // per_line)
    return START + b"ARG a=\nENV v=" + b"\\\n".join(lines) + b"\n"


# Made late: some take 10 MB.
_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "10 MB of instructions": (
        lambda: START + b"RUN echo hello\n" * (10 * MIB // 15),
        "dockerfile parse error on line 20001: more than 20000 instructions",
    ),
    "10 MB of comments": (lambda: b"# echo hello\n" * (10 * MIB // 13) + START, ""),
    "10 MB of long lines": (lambda: START + (b"RUN " + b"x" * 60_000 + b"\n") * 170, ""),
    "100,000 continuation lines": (lambda: START + b"RUN a \\\n" + b" && b \\\n" * 100_000, ""),
    "100,000 pairs": (lambda: START + b"ENV \\\n" + b" a=b \\\n" * 100_000, ""),
    "blank continuation lines": (lambda: START + b"RUN a \\\n" + b"\n" * 900_000, ""),
    "60,000 levels": (lambda: _nested(60_000), ""),
    "50,000 levels left open": (
        lambda: START + b"ENV a=" + (b"${a:-" * 5000 + b"\\\n") * 10,
        'failed to process "${a:-${a:-',
    ),
    "an error 20,000 levels deep": (
        lambda: _nested(20_000, inner=b"${x:?needed}"),
        'failed to process "${a:-${a:-',
    ),
    "a line of 60,000 bytes": (lambda: START + b"RUN " + b"a" * 60_000 + b"\n", ""),
    "a line of 70,000 bytes": (
        lambda: START + b"RUN " + b"a" * 70_000 + b"\n",
        "dockerfile parse error on line 2: dockerfile line greater than max allowed size of 65535",
    ),
    "a line of 10 MB": (
        lambda: START + b"RUN " + b"a" * 10 * MIB,
        "dockerfile parse error on line 2: dockerfile line greater than max allowed size of 65535",
    ),
    "invalid UTF-8": (
        lambda: START + b"RUN a\xff\n",
        "dockerfile parse error on line 2: the file is not UTF-8: byte 0xff",
    ),
    "a NUL": (
        lambda: START + b"RUN \0\n",
        "dockerfile parse error on line 2: NUL character in an instruction",
    ),
    "10 MB of NULs": (lambda: b"\0" * 10 * MIB, "dockerfile parse error on line 1: "),
    "100,000 stages": (
        lambda: START * 100_000,
        "dockerfile parse error on line 20001: more than 20000 instructions",
    ),
    "19,999 stages in a row": (
        lambda: (
            START[:-1]
            + b" AS s0\n"
            + b"".join(b"FROM s%d AS s%d\n" % (n, n + 1) for n in range(19_998))
        ),
        "",
    ),
    "100,000 heredocs": (
        lambda: START + b"RUN <<E\nE\n" * 100_000,
        "dockerfile parse error on line 40000: more than 20000 instructions",
    ),
    "100,000 heredocs on a line": (
        lambda: START + b"RUN " + b"\\\n".join([b"<<E "] * 100_000) + b"\n" + b"E\n" * 100_000,
        "dockerfile parse error on line 2: more than 120000 words",
    ),
    "a heredoc of 10 MB left open": (
        lambda: START + b"RUN <<E\n" + b"hello hello\n" * (10 * MIB // 12),
        "dockerfile parse error on line 2: unterminated heredoc",
    ),
    "a heredoc with 900,000 variables": (
        lambda: START + b"COPY <<E /x\n" + b"$a ${b:-c}\n" * 900_000 + b"E\n",
        'failed to process "$a ${b:-c}',
    ),
    "1,000,000 ONBUILDs in one": (
        lambda: START + b"ONBUILD \\\n" * 999_000 + b"RUN x\n",
        "dockerfile parse error on line 2: instruction longer than",
    ),
    "1,000 ONBUILDs in one": (
        lambda: START + b"ONBUILD " * 1_000 + b"RUN x\n",
        "dockerfile parse error on line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
    ),
    "triggers that multiply": (
        lambda: START[:-1] + b" AS a\n" + b"ONBUILD RUN x\n" * 5_000 + b"FROM a\n" * 4_900,
        "more than 10000 instructions come from ONBUILD",
    ),
    "a JSON list of 200,000 strings": (
        lambda: START + b"CMD [" + b'"a",\\\n' * 200_000 + b'"b"]\n',
        "",
    ),
    "60,000 brackets": (lambda: START + b"CMD " + b"[" * 60_000 + b"\n", ""),
    "100,000 mounts": (
        lambda: START + b"RUN " + b"--mount=target=/x \\\n" * 100_000 + b"x\n",
        "dockerfile parse error on line 2: more than 120000 words",
    ),
    "a pattern of 30,000 marks, 60,000 characters": (
        lambda: START + b"ARG x=" + b"a" * 60_000 + b"\nENV y=${x//" + b"?" * 30_000 + b"b/c}\n",
        "",
    ),
    "patterns that would backtrack": (
        lambda: (
            START
            + b"ARG x="
            + b"a" * 50_000
            + b"\nENV y=${x//a*a*a*a*a*b/c} z=${x//?/yyyy} w=${x%%*a*a*b*c} v=${x##*b*a}"
            b" u=${x/*?*?*?*?b/} t=${x%%" + b"*b" * 20_000 + b"}\n"
        ),
        "",
    ),
    "replacements that explode": (
        lambda: START + b"ARG x=" + b"a" * 50_000 + b"\nENV t=${x//a/$x}\n",
        'failed to process "${x//a/$x}": expansion is longer than',
    ),
    "a pattern that explodes": (
        lambda: START + b"ARG x=" + b"a" * 200 + b"\nENV t=${x%${x///${x///${x///a}}}}\n",
        'failed to process "${x%${x///${x///${x///a}}}}": pattern of more than 262144 characters',
    ),
    "a variable doubled and copied": (
        lambda: (
            START
            + b"ENV a=xxxxxxxxxx\n"
            + b"ENV a=$a$a$a$a$a$a$a$a$a$a\n" * 5
            + _numbered(b"ENV b%d=$a\n", 2_000)
        ),
        "variables and history of this build are longer than",
    ),
    "a long path copied to": (
        lambda: (
            START
            + b"ARG a=xxxxxxxxxx\n"
            + b"ARG a=$a$a$a$a$a$a$a$a$a$a\n" * 4
            + b"COPY $a /b\n" * 5_000
        ),
        "variables and history of this build are longer than",
    ),
    "a working directory that grows": (
        lambda: START + b"WORKDIR aaaaaaaaaaaaaaaaaaaaaa\n" * 9_900,
        "variables and history of this build are longer than",
    ),
    "5,000 arguments for 5,000 steps": (
        lambda: START + _numbered(b"ARG k%d=v\n", 4_998) + b"RUN x\n" * 5_000,
        "variables and history of this build are longer than",
    ),
    "5,000 variables for 5,000 steps": (
        lambda: START + _numbered(b"ENV k%d=v\nRUN x\n", 4_998),
        "variables and history of this build are longer than",
    ),
    "9,998 variables": (lambda: START + _numbered(b"ENV k%d=v\n", 9_998), ""),
    "60,000 arguments for 9,000 stages": (
        lambda: (
            START[:-1]
            + b" AS s\nARG "
            + _numbered(b" k%d=v \\\n", 60_000)
            + b"\n"
            + b"FROM s AS s\n" * 9_000
        ),
        "variables and history of this build are longer than",
    ),
    "all ports a thousand times": (
        lambda: START + b"EXPOSE 1-65535/udp\n" * 1_000,
        "variables and history of this build are longer than",
    ),
}

_IGNORE_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "30,000 stars": (lambda: b"*a" * 30_000 + b"\n", ""),
    "20,000 double stars": (lambda: b"**/" * 20_000 + b"a\n", ""),
    "stars that may cross slashes": (lambda: b"a**" * 20_000 + b"\n", ""),
    "a class of 20,000 ranges": (lambda: b"[" + b"a-z" * 20_000 + b"]\n", ""),
    "60,000 open classes": (
        lambda: b"[" * 60_000,
        ".dockerignore: ignore file line 1: syntax error in pattern",
    ),
    "100,000 patterns": (lambda: _numbered(b"a%d\n", 99_999), ""),
    "9,000 wildcards": (lambda: _numbered(b"**/a%d/*b\n", 9_000), ""),
    "100,000 wildcards": (lambda: _numbered(b"**/a%d*b\n", 100_000), "ignore file line"),
    "10 MB of patterns": (lambda: b"ab\n" * (10 * MIB // 3), "the ignore file has more than"),
    "10 MB of stars": (lambda: b"*" * 10 * MIB, "ignore file line 1: more than"),
    "300,000 times up": (lambda: b"../" * 300_000, ""),
    "bytes that are no text": (lambda: b"\xff\xfe*\0\n" * 1_000, ""),
}


@pytest.mark.parametrize("name", _FILES)
def test_a_hostile_file_is_answered(tmp_path: Path, name: str) -> None:
    make, error = _FILES[name]
    (tmp_path / "Dockerfile").write_bytes(make())
    _expect(tmp_path, error)


@pytest.mark.parametrize("name", _IGNORE_FILES)
def test_a_hostile_ignore_file_is_answered(tmp_path: Path, name: str) -> None:
    make, error = _IGNORE_FILES[name]
    (tmp_path / "Dockerfile").write_bytes(START + b"COPY a b/c /d/\nCOPY . /\n")
    (tmp_path / ".dockerignore").write_bytes(make())
    status, out, err = _check(tmp_path)
    assert status == (1 if error or "WARNING" in out else 0), err
    assert error in err[:500]
    assert err.startswith("error: ") == bool(error)
    assert "internal" not in err


def test_random_bytes_are_answered(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_bytes(os.urandom(5 * MIB))
    status, _, err = _check(tmp_path)
    assert status == 1
    assert err.startswith("error: dockerfile parse error on line ")
