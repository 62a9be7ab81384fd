"""Findings of a hostile reviewer: each case once gave a wrong result, a hang or an obscure end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import threading
import time
import unicodedata
from pathlib import Path

import pytest

from tests.harness import Pybuild, leftovers, make_base, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def image_id(pybuild: Pybuild, *words: str | Path, cwd: Path | None = None) -> str:
    return pybuild("build", "-q", *words, cwd=cwd).out.strip()


# --- memos: never a stale result ---------------------------------------------------------------


def test_a_link_to_a_named_context_may_be_pointed_elsewhere(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nCOPY --from=n f /f\n")
    write(tmp_path / "one", f="1")
    write(tmp_path / "two", f="2")
    link = tmp_path / "link"
    link.symlink_to("one")
    time.sleep(0.1)  # old enough for a memo
    images: list[str] = []
    for target in ("one", "one", "two"):
        link.unlink()
        link.symlink_to(target)
        images.append(image_id(pybuild, "--build-context", f"n={link}", context))
    assert images[0] == images[1] != images[2]
    assert pybuild("run", images[2], "cat", "/f").out == "2"


def test_a_build_without_cache_replaces_the_results_that_memos_stand_for(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:  # [KEY-11]
    dockerfile = f"FROM {base}\nRUN cat /proc/sys/kernel/random/uuid > /u\n"
    context = write(tmp_path / "c", Dockerfile=dockerfile)
    time.sleep(0.1)
    old = image_id(pybuild, context)
    assert image_id(pybuild, context) == old
    new = image_id(pybuild, "--no-cache", context)
    assert new != old
    assert image_id(pybuild, context) == new


def test_a_dockerfile_from_a_pipe_is_read_once_and_never_remembered(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """``pybuild build -f <(…) .``: looking at a memo must not drink the pipe."""
    context = write(tmp_path / "c")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    images: list[str] = []
    for value in "aab":
        builder = subprocess.Popen(
            pybuild.command("build", "-q", "-f", fifo, context),
            env=pybuild.environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        fifo.write_text(f"FROM {base}\nENV A={value}\n")
        images.append(builder.communicate(timeout=60)[0].strip())
        assert builder.returncode == 0
    assert images[0] == images[1] != images[2]


# --- ends: at once, with a status that says why ----------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_for_standard_input_can_be_cancelled(
    pybuild: Pybuild, tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        pybuild.command("build", "-"),
        env=pybuild.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as builder:
        watchdog = threading.Timer(60, builder.kill)
        watchdog.daemon = True
        watchdog.start()
        assert builder.stderr is not None
        assert b"load build definition" in builder.stderr.readline()
        builder.send_signal(number)
        assert builder.wait(timeout=60) == 128 + number
        assert b"cancel" in builder.stderr.read()
    assert leftovers(pybuild.store) == []


def test_a_dockerfile_that_is_a_pipe_nobody_writes_can_be_cancelled(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = write(tmp_path / "c")
    os.mkfifo(context / "Dockerfile")
    with subprocess.Popen(
        pybuild.command("build", context), env=pybuild.environment, stderr=subprocess.PIPE
    ) as builder:
        watchdog = threading.Timer(60, builder.kill)
        watchdog.daemon = True
        watchdog.start()
        assert builder.stderr is not None
        assert b"load build definition" in builder.stderr.readline()
        builder.terminate()
        assert builder.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("flags", [["--no-cache"], []])
def test_closed_standard_streams_break_nothing(
    pybuild: Pybuild, base: str, tmp_path: Path, closed: str, flags: list[str]
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN echo hi\n")
    time.sleep(0.1)
    image_id(pybuild, context)  # a memo for the way without --no-cache
    command = ["sh", "-c", f'"$@" {closed}', "sh"]
    done = subprocess.run(
        [*command, *pybuild.command("build", "-q", *flags, context)],
        env=pybuild.environment,
        timeout=60,
        check=False,
    )
    assert done.returncode == (3 if ">&-" in closed.split() else 0), "its ID goes nowhere"


def test_standard_error_on_a_full_disk_is_the_environments_fault(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="NONSENSE\n")
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            pybuild.command("build", context), env=pybuild.environment, stderr=full, check=False
        )
    assert done.returncode == 3


def test_an_export_that_fails_says_why_and_not_how_it_was_run(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN touch /.wh.x\n")
    done = pybuild("build", "--progress=plain", context, code=1)
    assert done.err.count('".wh.x" cannot be stored in an image') == 2
    assert "TaskGroup" not in done.err


# --- terminals: a build draws inside its lines and steps draw nothing ------------------------------


def on_terminal(pybuild: Pybuild, columns: int, rows: int, *words: str | Path) -> str:
    """Return the text that a build writes to a terminal of this size."""
    import fcntl
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    builder = subprocess.Popen(
        pybuild.command("build", *words),
        env={**pybuild.environment, "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=slave,
    )
    os.close(slave)
    screen = bytearray()
    try:
        while block := os.read(master, 1 << 16):
            screen += block
    except OSError:  # EIO: the last writer is gone
        pass
    os.close(master)
    builder.wait(timeout=60)
    return screen.decode(errors="replace")


def columns_of(line: str) -> int:
    plain = re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", line)
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in plain)


@pytest.mark.parametrize(("columns", "rows"), [(20, 5), (80, 24), (200, 3), (12, 1)])
def test_no_line_is_wider_than_the_terminal(
    pybuild: Pybuild, base: str, tmp_path: Path, columns: int, rows: int
) -> None:
    wide = "日本語" * 40
    dockerfile = f"FROM {base}\nRUN echo {wide}; echo {'x' * 300}; sleep 0.4\n"
    context = write(tmp_path / "c", Dockerfile=dockerfile)
    screen = on_terminal(pybuild, columns, rows, context)
    assert "RUN"[: columns - 12] in screen
    drawn, _, _ = screen.partition("untagged: kept as")  # the last line is the terminal's to break
    assert max(map(columns_of, re.split("[\r\n]+", drawn))) <= columns


def test_neither_steps_nor_dockerfiles_command_the_terminal(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    evil = "\x1b]0;evil\x07\x1b[2J\x9b"
    good = f"FROM {base}\nRUN echo '{evil}'; sleep 0.3\n"
    bad = f"FROM {base}\nRUN printf '\\033]0;evil\\007'; echo '{evil}' >&2; false\n"
    for text, times in ((good, 2), (bad, 1)):
        context = write(tmp_path / "c", Dockerfile=text)
        time.sleep(0.1)
        for _ in range(times):  # the second time from the memo
            screen = on_terminal(pybuild, 80, 24, context)
            assert "evil" in screen
            assert not {"\x1b]", "\x1b[2J", "\x07", "\x9b"} & {
                *re.findall("\x1b\\]|\x1b\\[2J|\x07|\x9b", screen)
            }


# --- stores in odd places -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["a b", "a,b", "a:b", "a\\b", "a\nb", "é", os.fsdecode(b"\xff"), "%41?#", "long"],
    ids=["space", "comma", "colon", "backslash", "newline", "letter", "byte", "url", "long"],
)
def test_a_store_may_be_anywhere(tmp_path: Path, name: str) -> None:
    """Each of these once broke somebody's overlay options."""
    context = write(tmp_path / "c", f="f", Dockerfile="FROM base\nCOPY f /f\nRUN cat /f > /g\n")
    stores = [tmp_path / name]
    if name == "long":  # fsconfig(2) takes 255 bytes a string; what is appended to this differs
        parent = tmp_path / ("x" * max(1, 165 - len(str(tmp_path))))
        stores = [parent / ("y" * length) for length in (20, 30, 35, 40, 200)]
    for number, store in enumerate(stores):
        pybuild = Pybuild(store)
        make_base(pybuild, tmp_path / f"base{number}", "base")
        pybuild("build", "-t", "x", context)
        assert pybuild("run", "x", "cat", "/g").out == "f"


# --- damaged stores: mended or refused, never a wrong result ----------------------------------------


@pytest.mark.parametrize("remembered", [True, False])
def test_a_layer_that_lost_its_end_is_made_again(
    pybuild: Pybuild, base: str, tmp_path: Path, remembered: bool
) -> None:
    """As a power cut leaves files: there, but shorter."""
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN echo 1 > /one\n")
    time.sleep(0.1)
    pybuild("build", "-t", "x", context)
    layer = json.loads(pybuild("inspect", "--raw", "x").out)["layers"][-1]
    blob = pybuild.store / "blobs/sha256" / layer["digest"].partition(":")[2]
    blob.write_bytes(blob.read_bytes()[:50])
    pybuild("inspect", "--check", "x", code=1)
    pybuild("build", "-t", "x", *([] if remembered else ["--label", "a=b"]), context)
    pybuild("inspect", "--check", "x")


@pytest.mark.parametrize("part", ["manifest", "config"])
def test_a_damaged_base_is_the_environments_fault(
    pybuild: Pybuild, base: str, tmp_path: Path, part: str
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\nRUN echo 1 > /one\n")
    told = json.loads(pybuild("inspect", "--oci", base).out)
    digest = told["descriptor"]["digest"]
    if part == "config":
        digest = told["manifest"]["config"]["digest"]
    blob = pybuild.store / "blobs/sha256" / digest.partition(":")[2]
    data = bytearray(blob.read_bytes())
    data[10] ^= 1
    blob.write_bytes(data)
    assert "bug" not in pybuild("run", base, "true", code=125).err
    assert "bug" not in pybuild("build", context, code=3).err
    make_base(pybuild, tmp_path / "again", base)
    pybuild("build", context)


# --- outputs: what is not done is refused, never ignored -------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        "type=oci,dest=x,nope=1",
        "type=local,dest=x,annotation.a=b",
        "",
        "type=tar,dest=x,force-compression=true",
        "type=image,prefer-nondist-layers=true",
        "type=image,dest=x",
        "type=tar,dest=x,compression=zstd",
        "type=cacheonly,dest=x",
    ],
)
def test_an_output_attribute_that_means_nothing_is_refused(
    pybuild: Pybuild, base: str, tmp_path: Path, spec: str
) -> None:
    context = write(tmp_path / "c", Dockerfile=f"FROM {base}\n")
    assert "output" in pybuild("build", "-o", spec, context, code=2).err
    pybuild("build", "-o", "type=image,rewrite-timestamp=false,name=y", context)
