"""Reasons of failed steps: by status, by what they wrote last, by the files that they had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybuild.executor.steps.exits import Reason, StepFiles, command_of, reason_of
from pybuild.executor.steps.spec import StepExit
from pybuild.model.ops import ExecOp, Mount, MountType, NetworkMode, StepSettings
from pybuild.model.platform import Platform

REFUSED = "wget: can't connect to remote host (127.0.0.1): Connection refused"
PROXY = "curl: (5) could not connect to proxy"


def step(
    *args: str,
    env: tuple[str, ...] = (),
    proxy_env: tuple[str, ...] = (),
    user: str = "",
    mounts: tuple[Mount, ...] = (),
    network: NetworkMode = NetworkMode.DEFAULT,
) -> ExecOp:
    return ExecOp(
        args=args or ("/bin/sh", "-c", "x"),
        env=env,
        cwd="/",
        user=user,
        mounts=mounts,
        platform=Platform("linux", "amd64"),
        proxy_env=proxy_env,
        settings=StepSettings(network=network),
    )


def reason(last: str, *, connected: bool, env: tuple[str, ...] = ()) -> tuple[str, str]:
    op = step(proxy_env=env)
    return reason_of(op, StepExit(1), [last], StepFiles(()), [], "/", connected=connected)


def why(
    status: int,
    *last: str,
    op: ExecOp | None = None,
    files: StepFiles | None = None,
    secrets: tuple[str, ...] = (),
) -> Reason:
    op, files = op or step(), files or StepFiles(())
    return reason_of(op, StepExit(status), last, files, secrets, "/")


@pytest.fixture
def image(tmp_path: Path) -> StepFiles:
    """A layer with a shell and some programs that do not start, below one with a script."""
    low, top = tmp_path / "low", tmp_path / "top"
    for place, text in {
        "bin/sh": b"\x7fELF",
        "usr/bin/python3": b"\x7fELF",
        "usr/local/bin/node": b"\x7fELF",
        "opt/windows.sh": b"#!/bin/sh\r\necho\r\n",
        "opt/perl": b"#! /usr/bin/perl -w\nprint\n",
        "opt/empty": b"#!\n",
        "opt/musl": b"\x7fELF\2\1",
        "opt/text": b"echo",
        "opt/plain": b"#!/bin/sh\n",
    }.items():
        (low / place).parent.mkdir(parents=True, exist_ok=True)
        (low / place).write_bytes(text)
    (low / "opt/plain").chmod(0o640)
    (top / "opt").mkdir(parents=True)
    (top / "opt/text").write_bytes(b"\x7fELF")
    (top / "opt/text").chmod(0o755)
    (top / "out").symlink_to("/etc/passwd")
    (top / "opt/dir").mkdir()
    return StepFiles((str(top), str(low)))


@pytest.mark.parametrize(
    ("last", "env", "shown"),
    [
        (REFUSED, (), "at 127.0.0.1 is"),
        ("connect to localhost port 80 failed: Connection refused", (), "at localhost is"),
        (PROXY, ("http_proxy=http://127.0.0.1:3128",), "at 127.0.0.1 (http_proxy) is"),
    ],
)
def test_a_loopback_address_is_the_steps_own(last: str, env: tuple[str, ...], shown: str) -> None:
    cause, hint = reason(last, connected=True, env=env)
    assert cause.startswith(shown)
    assert "--network=host" in hint
    assert cause not in reason(last, connected=False, env=env)


def test_the_last_address_counts_and_a_proxy_may_be_one_of_env() -> None:
    ended = StepExit(1)
    lines = ["connect to 127.0.0.1: no", "connect to 127.8.9.10: refused", "giving up"]
    cause, _ = reason_of(step(), ended, lines, StepFiles(()), [], "/", connected=True)
    assert cause.startswith("at 127.8.9.10 is what listens in the step itself")
    op = step(env=("A=127.0.0.1", "HTTPS_PROXY=http://[::1]:1"))
    cause, _ = reason_of(op, ended, [PROXY], StepFiles(()), [], "/", connected=True)
    assert cause.startswith("at [::1] (HTTPS_PROXY) is")


def test_what_was_not_asked_there_has_other_reasons() -> None:
    for last in ("connect to 192.0.2.1 failed: Connection refused", "127.0.0.1 is a number"):
        assert reason(last, connected=True) == ("", f"it wrote last: {last}")


@pytest.mark.parametrize(
    ("args", "shown"),
    [
        (("/bin/sh", "-c", "make  all"), "make  all"),
        (("/bin/bash", "-ec", " a\n"), "a"),
        (("/bin/bash", "-exc", "a\n\n  b"), "2 lines that begin with a"),
        (("/bin/sh", "-x", "a"), "/bin/sh -x a"),
        (("-c", "a"), "-c a"),
        (("id",), "id"),
        (("/bin/sh", "-c", "x" * 160), "x" * 160),
        (("/bin/sh", "-c", "x" * 161), "x" * 159 + "…"),
        (("/bin/sh", "-c", "  " + "x" * 170 + "\ny"), "2 lines that begin with " + "x" * 160),
    ],
)
def test_commands_are_shown_on_a_line(args: tuple[str, ...], shown: str) -> None:
    assert command_of(step(*args)) == shown


@pytest.mark.parametrize(
    ("status", "last", "cause", "hint"),
    [
        (1, "", "", "it wrote nothing: RUN set -x; … shows each command before it runs"),
        (1, "oh", "", "it wrote last: oh"),
        (128, "oh", "", "it wrote last: oh"),
        (129, "oh", "signal 1 (SIGHUP)", "see what the step ran: the signal came from inside"),
        (137, "oh", "signal 9 (SIGKILL)", "the kernel does that where memory is short"),
        (139, "oh", "signal 11 (SIGSEGV)", "the program is at fault, or was made for another"),
        (132, "oh", "signal 4 (SIGILL)", "the program is at fault, or was made for another"),
        (135, "oh", "signal 7 (SIGBUS)", "the program is at fault, or was made for another"),
        (255, "oh", "signal 127", "see what the step ran: the signal came from inside"),
        (1, "open /x: Permission denied", "", "it wrote last: open /x: Permission denied"),
        (1, "E: Unable to locate package jq", "apt has no list of packages", "put apt-get update"),
        (6, "curl: (6) Could not resolve host: x", "a name of a host is not known to it", "see /e"),
        (1, "wget: bad address 'x'", "a name of a host is not known to it", "see /etc/resolv.conf"),
        (1, "Temporary failure in name resolution", "a name of a host is not known to it", "see /"),
        (1, "x: Name or service not known", "a name of a host is not known to it", "see /etc/"),
    ],
)
def test_reasons_by_status_and_last_line(status: int, last: str, cause: str, hint: str) -> None:
    given = why(status, last)
    assert given[0] == cause
    assert given[1].startswith(hint)


def test_six_lines_of_the_end_count_without_blank_ones() -> None:
    assert why(1, "Unable to locate package x", *["a"] * 5)[0] == "apt has no list of packages"
    assert why(1, "Unable to locate package x", *["a"] * 6) == ("", "it wrote last: a")
    assert why(1, "last", "  ", "") == ("", "it wrote last: last")


def test_the_line_of_a_heredoc_is_shown_where_one_alone_begins_so() -> None:
    text = "set -e\ncp a b\n\nmv c d\n"
    op = step("/bin/sh", "-c", text)
    assert why(1, "cp: no a", op=op) == ("", "it wrote last: cp: no a (cp a b)")
    twice = step("/bin/sh", "-c", text + "cp e f")
    assert why(1, "cp: no a", op=twice) == ("", "it wrote last: cp: no a")
    short = step("/bin/sh", "-c", "set -e\ncp a b")
    assert why(1, "cp: no a", op=short) == ("", "it wrote last: cp: no a")


def test_a_step_without_network_resolves_no_name() -> None:
    op = step(network=NetworkMode.NONE)
    assert why(1, "could not resolve x", op=op) == (
        "it has no network",
        "leave --network=none out",
    )
    assert why(1, "no", op=op) == ("", "it wrote last: no")


def test_a_secret_that_nobody_gave_is_named() -> None:
    given = ("secret key was not given", "give it: --secret id=key,src=FILE")
    assert why(1, "cat: /run/secrets/key: no", secrets=("other", "key")) == given
    asks = step("/bin/sh", "-c", "cat $(find / -name key)")
    assert why(1, "no", op=asks, secrets=("key",)) == given
    # The command of a step without a shell has no text to look into.
    assert why(1, "no", op=step("cat", "key"), secrets=("key",)) == ("", "it wrote last: no")
    assert why(1, "no", secrets=("key",)) == ("", "it wrote last: no")


@pytest.mark.parametrize("last", ["x: Permission denied", "chown: Operation not permitted"])
def test_users_that_have_no_right_are_named(last: str) -> None:
    cause, hint = why(1, last, op=step(user="www"))
    assert cause == "www has no right to it"
    assert hint == "do it before USER, or give the files away: COPY --chown, RUN chown"
    assert why(1, last) == ("", f"it wrote last: {last}")


@pytest.mark.parametrize("said", ["No space left on device", "cp: Disk quota exceeded"])
def test_a_full_disk_is_told_with_what_is_left(said: str, tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    if disk.f_bavail * 50 <= disk.f_blocks:
        pytest.skip("this disk is full")
    small = Mount(target="/small", type=MountType.TMPFS)
    other = Mount(target="/kept", type=MountType.CACHE)
    more = Mount(target="/more", type=MountType.TMPFS)
    for mounts, where, target in (
        ((), "a file system of the step", "PATH"),
        ((other,), "a file system of the step", "PATH"),
        ((other, small), "/small", "/small"),
        ((small, more), "/small or /more", "/small"),
    ):
        op = step(mounts=mounts)
        given = reason_of(op, StepExit(1), [said], StepFiles(()), [], str(tmp_path))
        assert given[0] == f"{where} is full"
        assert given[1] == f"give it more: --mount=type=tmpfs,target={target},size=…"


def test_files_are_those_of_the_topmost_layer_and_no_link_leads_out(image: StepFiles) -> None:
    assert image.look("/opt/text") == (0o100755, b"\x7fELF")
    assert image.look("opt/plain") == (0o100640, b"#!/bin/sh\n")
    assert image.look("/out") is None
    assert image.look("/opt/dir") is None
    assert image.look("/none") is None
    assert (image.has("/out"), image.has("opt/dir"), image.has("/none")) == (True, True, False)
    assert image.programs() == {"sh", "python3", "node"}


def test_no_more_than_the_head_of_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 300)
    seen = StepFiles((str(tmp_path),)).look("/long")
    assert seen is not None
    assert seen[1] == b"x" * 256


@pytest.mark.parametrize(
    ("last", "cause", "hint"),
    [
        ("/bin/sh: 1: pyton3: not found", "pyton3 is not in the image", "did you mean python3?"),
        ("bash: nod: command not found", "nod is not in the image", "did you mean node?"),
        ("sh: cargo: not found", "cargo is not in the image", "install it in a RUN before"),
        ("sh: sudo: not found", "sudo is not in the image", "leave it out: steps run as root"),
        (
            'exec: "gcc": executable file not found in $PATH',
            "gcc is not in the image",
            "install it in a RUN before, or correct its name",
        ),
        (
            'exec: "/opt/none": no such file or directory',
            "/opt/none is not in the image",
            "install it in a RUN before, or correct its name",
        ),
        (
            "sh: /opt/windows.sh: not found",
            "/opt/windows.sh has the line ends of Windows",
            "convert it: RUN sed -i 's/\\r$//' /opt/windows.sh, or in .gitattributes: *.sh eol=lf",
        ),
        (
            "sh: /opt/perl: not found",
            "/opt/perl wants /usr/bin/perl, which is not in the image",
            "install it before, or change its first line, #!/usr/bin/perl -w",
        ),
        (
            "sh: /opt/empty: not found",
            "/opt/empty wants , which is not in the image",
            "install it before, or change its first line, #!",
        ),
        (
            "sh: /opt/musl: not found",
            "/opt/musl wants a loader that is not in the image",
            "it was made for another libc (glibc, musl)",
        ),
        ("a", "/bin/sh wants a loader that is not in the image", "it was made for another libc"),
    ],
)
def test_programs_that_are_not_there(image: StepFiles, last: str, cause: str, hint: str) -> None:
    given = why(127, last, files=image)
    assert given[0] == cause
    assert given[1].startswith(hint)


def test_a_file_of_no_known_kind_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("echo")
    files = StepFiles((str(tmp_path),))
    given = why(127, "sh: /run: not found", files=files)
    assert given == ("/run cannot be started", "begin it with #!/bin/sh")


def test_an_image_without_the_shell_says_so(image: StepFiles) -> None:
    for last in ("", 'exec: "/bin/bash": no such file or directory'):
        given = why(127, last, op=step("/bin/bash", "-c", "x"), files=image)
        assert given == (
            "the image has no /bin/bash",
            'use a program that it has, RUN ["/program", "word"], or a base image with a shell',
        )
    # A command without a shell is not one itself.
    given = why(127, "", op=step("/bin/bash"), files=image)
    assert given == (
        "/bin/bash is not in the image",
        "install it in a RUN before, or correct its name",
    )


def test_brackets_that_are_no_json_are_told_of(image: StepFiles) -> None:
    given = why(127, "sh: [a,: not found", op=step("/bin/sh", "-c", " ['a']"), files=image)
    assert given == (
        "it is no JSON, so a shell reads the brackets",
        'write it with double quotes, and nothing behind the last word: ["a", "b"]',
    )


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/opt/plain", "its mode is 640: COPY --chmod=755, or chmod +x it where it comes from"),
        ("/opt/text", "give it the right to be executed: chmod +x"),
        ("/opt/none", "give it the right to be executed: chmod +x"),
    ],
)
def test_files_that_may_not_be_executed(image: StepFiles, path: str, hint: str) -> None:
    given = why(126, f"sh: {path}: Permission denied", files=image)
    assert given == (f"{path} may not be executed", hint)
    assert why(125, f"sh: {path}: Permission denied", files=image)[0] == ""
    assert why(126, "what", files=image) == ("", "it wrote last: what")
