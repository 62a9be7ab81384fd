"""Texts of others command no terminal: sequences by places in which they reach one."""

from __future__ import annotations

import errno
import json
import logging
import os
import pty
import re
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from pybuild.daemon import process
from pybuild.model.digest import Digest
from pybuild.model.errors import StepError, UserError
from pybuild.model.events import (
    BuildWarning,
    Event,
    LogStream,
    VertexAdded,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.printable import with_colours, without_controls
from pybuild.model.span import Span
from pybuild.progress.plain import PlainDisplay
from pybuild.progress.render import report
from pybuild.progress.terminalguard import TerminalGuard
from pybuild.progress.tty import TtyDisplay
from tests.harness import Pybuild, make_base, write

# By what a terminal would do; each has "seen" around it, which must stay.
SEQUENCES = {
    "title (OSC 0)": "\x1b]0;pwned\x07",
    "title ended by ST": "\x1b]2;pwned\x1b\\",
    "title in C1": "\x9d0;pwned\x9c",
    "clipboard (OSC 52)": "\x1b]52;c;cm0gLXJmIH4K\x07",
    "clipboard without end": "\x1b]52;c;cm0gLXJmIH4K",
    "clipboard in C1": "\x9d52;c;cm0K\x9c",
    "hyperlink (OSC 8)": "\x1b]8;;http://evil.example\x1b\\text\x1b]8;;\x1b\\",
    "palette (OSC 4)": "\x1b]4;1;rgb:00/00/00\x07",
    "working directory (OSC 7)": "\x1b]7;file:///etc\x07",
    "notification (OSC 9)": "\x1b]9;pwned\x07",
    "image (OSC 1337)": "\x1b]1337;File=inline=1:AAAA\x07",
    "shell marks (OSC 133)": "\x1b]133;C\x07",
    "device control (DCS)": "\x1bP$q q\x1b\\",
    "sixel": "\x1bPq#0;2;0;0;0\x1b\\",
    "DCS in C1": "\x90$q q\x9c",
    "user keys (DECUDK)": "\x1bP0;1|17/726d\x1b\\",
    "APC": "\x1b_Gf=24;AAAA\x1b\\",
    "APC in C1": "\x9fGf=24\x9c",
    "PM": "\x1b^x\x1b\\",
    "SOS": "\x1bXx\x1b\\",
    "screen's title": "\x1bkpwned\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "clear in C1": "\x9b2J\x9bH",
    "cursor up over lines of ours": "\x1b[9A\x1b[2K",
    "cursor to a place": "\x1b[1;1H",
    "scroll region": "\x1b[1;2r",
    "alternate screen": "\x1b[?1049h",
    "mouse reports": "\x1b[?1003h",
    "bracketed paste off": "\x1b[?2004l",
    "answerback (DA)": "\x1b[c",
    "report of the cursor": "\x1b[6n",
    "report of the title": "\x1b[21t",
    "status in C1": "\x9b6n",
    "reset (RIS)": "\x1bc",
    "soft reset": "\x1b[!p",
    "character set": "\x1b(0",
    "another coding": "\x1b%@",
    "locking shift": "\x1bn\x0e",
    "insert mode": "\x1b[4h",
    "keyboard modes": "\x1b[>4;2m",
    "private colours": "\x1b[?1m",
    "intermediate": "\x1b[1 q",
    "escape at the end": "\x1b",
    "CSI without end": "\x1b[",
    "escape in escape": "\x1b\x1b[2J",
    "CSI through a newline's brother": "\x1b[\x0b2J",
    "bell": "\x07",
    "backspaces": "\x08\x08\x08\x08",
    "delete": "\x7f",
    "NUL": "\x00",
    "form feed": "\x0c",
    "vertical tab": "\x0b",
    "next line (NEL)": "\x85",
    "reverse index": "\x8d",
    "answer to ENQ": "\x05",
    "right-to-left override": "\u202e",
    "left-to-right override": "\u202d",
    "embedding": "\u202b",
    "isolates": "\u2066\u2067\u2068\u2069",
    "marks": "\u200e\u200f\u061c",
    "line separator": "\u2028",
    "paragraph separator": "\u2029",
    "tags": "\U000e0061\U000e0062",
    "a byte that is no text": "\udc9b2J",
}
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
# Of ours: colours, and what the drawing view moves by.
OURS = re.compile("\x1b\\[(?:[0-9;]*m|2K|J|[0-9]+A\r)")
VERTEX = Digest.of(b"a")


class Screen(StringIO):
    """A terminal that keeps what was written to it."""

    def isatty(self) -> bool:
        return True


def harmless(shown: str) -> None:
    assert FORBIDDEN.search(OURS.sub("", shown)) is None, repr(shown)


def _plain(screen: Screen, *events: Event) -> None:
    display = PlainDisplay(TerminalGuard(screen))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for event in events:
        display.show(event)
    display.close()


def _tty(screen: Screen, *events: Event) -> None:
    display = TtyDisplay(screen, clock=lambda: 0.0, animate=False)
    for event in events:
        display.show(event)
        display.draw(final=False)
    display.close()


View = Callable[..., None]
STARTED = VertexStarted(vertex=VERTEX, time=0.0)


def _name(view: View, screen: Screen, text: str) -> None:
    view(screen, VertexAdded(vertex=VERTEX, name=text), STARTED)


def _log(view: View, screen: Screen, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape") + b"\n"
    log = VertexLog(vertex=VERTEX, time=0.0, stream=LogStream.STDOUT, data=data)
    view(screen, VertexAdded(vertex=VERTEX, name="x"), STARTED, log)


def _last_words(view: View, screen: Screen, text: str) -> None:
    data = text.encode("utf-8", "surrogateescape")
    log = VertexLog(vertex=VERTEX, time=0.0, stream=LogStream.STDOUT, data=data)
    end = VertexCompleted(vertex=VERTEX, time=0.0)
    view(screen, VertexAdded(vertex=VERTEX, name=text), STARTED, log, end)


def _failure(view: View, screen: Screen, text: str) -> None:
    failed = VertexFailed(vertex=VERTEX, time=0.0, error=text)
    view(screen, VertexAdded(vertex=VERTEX, name=text), STARTED, failed)


def _transfer(view: View, screen: Screen, text: str) -> None:
    moved = VertexProgress(vertex=VERTEX, time=0.0, id=text, current=1, total=2)
    done = VertexProgress(vertex=VERTEX, time=0.0, id=text, current=2, total=2, done=True)
    view(screen, VertexAdded(vertex=VERTEX, name=text), STARTED, moved, done)


def _warning(view: View, screen: Screen, text: str) -> None:
    view(screen, BuildWarning(message=text, rule=text))


def _error(_view: View, screen: Screen, text: str) -> None:
    """A message, a hint, a file's name, its lines, and a step's last words."""
    error = StepError(
        text,
        status=1,
        hints=[text],
        spans=[Span(file=text, first_line=1, last_line=1)],
        sources={text: [text, text]},
        log_tail=(text,),
    )
    report(error, TerminalGuard(screen))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def _other_errors(_view: View, screen: Screen, text: str) -> None:
    out = TerminalGuard(screen)
    for error in (
        OSError(errno.ENOENT, "gone", text),
        ValueError(text),
        ExceptionGroup(text, [UserError(text)]),
    ):
        report(error, out)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def _anything(_view: View, screen: Screen, text: str) -> None:
    """A table, a list, a manifest as it came, a server's own log: all that is printed."""
    out = TerminalGuard(screen)
    print(text, file=out)
    out.writelines([text, text + "\n"])


PLACES: dict[str, tuple[Callable[[View, Screen, str], None], View]] = {
    **{
        f"{word}{what.__name__}": (what, view)
        for word, view in (("plain", _plain), ("tty", _tty))
        for what in (_name, _log, _last_words, _failure, _transfer, _warning)
    },
    "error": (_error, _plain),
    "other errors": (_other_errors, _plain),
    "anything": (_anything, _plain),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_sequence_reaches_the_terminal(place: str) -> None:
    write_it, view = PLACES[place]
    for name, sequence in SEQUENCES.items():
        screen = Screen()
        write_it(view, screen, f"seen{sequence}seen")
        shown = screen.getvalue()
        assert "seen" in shown, name
        harmless(shown)


def test_no_sequence_is_made_of_two_pieces() -> None:
    """Removing a sequence joins no rest to another one, and no piece of text waits for the next."""
    for sequence in SEQUENCES.values():
        for at in range(len(sequence)):
            head, tail = sequence[:at], sequence[at:]
            harmless(without_controls(head) + without_controls(tail))
            harmless(with_colours(head + tail))
        harmless(without_controls("\x1b" + sequence + "[2J"))


# --- what stays -----------------------------------------------------------------------------------


def test_colours_of_a_step_stay_and_end_with_its_line() -> None:
    screen = Screen()
    _log(_plain, screen, "\x1b[1;31mred\nnext\x1b[0m")
    assert screen.getvalue().startswith(
        "#1 x\n#1 0.000 \x1b[1;31mred\x1b[0m\n#1 0.000 next\x1b[0m\x1b[0m\n"
    )


def test_words_of_all_languages_stay() -> None:
    text = "ärger 日本語 שלום مرحبا 👩\u200d👩 e\u0301\tx\n"
    assert without_controls(text) == text


def test_a_file_gets_a_steps_bytes_as_they_are() -> None:
    out = StringIO()
    display = PlainDisplay(out)
    for event in (
        VertexAdded(vertex=VERTEX, name="x"),
        STARTED,
        VertexLog(
            vertex=VERTEX, time=0.0, stream=LogStream.STDOUT, data=b"\x1b]0;t\x07\xc2\x9b2J\n"
        ),
    ):
        display.show(event)
    assert out.getvalue() == "#1 x\n#1 0.000 \x1b]0;t\x07\x9b2J\n"


SPLITTERS = ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")


@pytest.mark.parametrize("what", [_name, _failure, _transfer, _warning], ids=lambda f: f.__name__)
@pytest.mark.parametrize("splitter", SPLITTERS, ids=ascii)
def test_every_line_of_a_log_begins_with_a_number_of_ours(
    what: Callable[[View, Screen, str], None], splitter: str
) -> None:
    """In a CI system's log, a line's beginning can be a command to that system."""

    def to_file(_screen: Screen, *events: Event) -> None:
        display = PlainDisplay(out)
        for event in events:
            display.show(event)
        display.close()

    out = StringIO()
    what(to_file, Screen(), f"x{splitter}::set-env name=PATH::/evil")
    for line in re.split("[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", out.getvalue()):
        assert not line.lstrip().startswith("::"), repr(out.getvalue())


@pytest.mark.parametrize("splitter", ["\n", "\r", "\r\n", "\n\r", "\r\r"], ids=ascii)
def test_every_line_of_a_step_begins_with_a_number_of_ours(splitter: str) -> None:
    terminal, file = Screen(), StringIO()
    for screen, out in ((terminal, TerminalGuard(terminal)), (file, file)):
        display = PlainDisplay(out)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        data = f"one{splitter}::set-env name=PATH::/evil".encode()
        display.show(STARTED)
        display.show(VertexLog(vertex=VERTEX, time=0.0, stream=LogStream.STDOUT, data=data))
        display.show(VertexCompleted(vertex=VERTEX, time=0.0))
        shown = screen.getvalue()
        assert "/evil" in shown
        assert not [line for line in re.split("[\r\n]", shown) if line.lstrip().startswith("::")]


# --- commands on a terminal -------------------------------------------------------------------------

EVIL = "\x1b]0;pwned\x07\x1b]52;c;cm0K\x07\x9b2J\x1b[9A\u202e\x08\x7f"


def on_terminal(pybuild: Pybuild, cwd: Path, *words: str | Path) -> str:
    """Return what a command writes to a terminal, by both streams."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        pybuild.command(*words),
        env={**pybuild.environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
        cwd=cwd,
    )
    os.close(slave)
    screen = bytearray()
    try:
        while block := os.read(master, 1 << 16):
            screen += block
    except OSError:  # EIO: the last writer is gone
        pass
    os.close(master)
    process.wait(timeout=60)
    return screen.decode(errors="surrogateescape").replace("\r\n", "\n")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pybuild, Path]:
    """A store with an image whose every text is hostile, and the context that made it."""
    where = tmp_path_factory.mktemp("site")
    pybuild = Pybuild(where / "store")
    make_base(pybuild, where / "base", "base")
    text = f'FROM base\nLABEL seen="seen{EVIL}"\nENV A="{EVIL}"\nRUN echo "seen{EVIL}"\n'
    context = write(where / "c", Dockerfile=text)
    (context / f"seen{EVIL}").write_text("x")
    (context / "evil").write_text(f"FROM base\nRUN false seen{EVIL}\nSEEN{EVIL}\n")
    (context / "fails").write_text(f'FROM base\nRUN echo "seen{EVIL}"; false\n')
    (context / "lint").write_text(f"FROM base AS Seen{EVIL}\nMAINTAINER seen{EVIL}\n")
    (context / "copies").write_text(f'FROM base\nCOPY ["seen{EVIL}x", "/"]\n')
    (context / "from").write_text(f"FROM seen{EVIL}\n")
    pybuild("build", "-t", "app", context)
    return pybuild, context


TYPED: tuple[tuple[str, ...], ...] = (
    ("build", "--progress=plain", "--no-cache", "."),
    ("build", "--progress=tty", "--no-cache", "."),
    ("build", "--progress=rawjson", "--no-cache", "."),
    ("build", "--progress=plain", "."),
    ("build", "--progress=tty", "."),
    ("build", "--progress=plain", "-f", "evil", "."),
    ("build", "--progress=tty", "-f", "fails", "."),
    ("build", "--progress=plain", "-f", "fails", "."),
    ("build", "--progress=plain", "-f", "copies", "."),
    ("build", "--progress=plain", "-f", "from", "."),
    ("build", "--check", "-f", "lint", "."),
    ("build", f"--target=seen{EVIL}", "."),
    ("build", f"seen{EVIL}x"),
    ("build", "-f", f"seen{EVIL}x", "."),
    ("build", f"--seen{EVIL}", "."),
    ("lint", "."),
    (f"seen{EVIL}",),
    ("history", "--no-trunc", "app"),
    ("inspect", "app"),
    ("inspect", "--raw", "app"),
    ("inspect", f"seen{EVIL}"),
    ("images",),
    ("explain",),
    ("explain", f"seen{EVIL}"),
    ("du", "--verbose"),
    ("why-kept", f"seen{EVIL}"),
    ("imagetools", "inspect", f"seen{EVIL}"),
    ("tag", "app", f"seen{EVIL}"),
    ("prune", "--force", f"--filter=seen{EVIL}"),
    ("load", "-i", f"seen{EVIL}"),
    ("-H", f"unix:///seen{EVIL}", "build", "."),
    ("build", "--progress=plain", "-D", f"--build-arg=A=seen{EVIL}", "-f", "evil", "."),
)


@pytest.mark.slow
@pytest.mark.sandbox
def test_no_command_hands_on_what_commands_the_terminal(site: tuple[Pybuild, Path]) -> None:
    pybuild, context = site
    for words in TYPED:
        shown = on_terminal(pybuild, context, *words)
        assert shown, words
        harmless(shown)
        assert "\x1b]" not in shown


@pytest.mark.slow
@pytest.mark.sandbox
def test_a_step_on_ones_own_terminal_has_it_as_docker_gives_it(site: tuple[Pybuild, Path]) -> None:
    pybuild, context = site
    shown = on_terminal(pybuild, context, "run", "app", "echo", "\x1b[2Jx")
    assert "\x1b[2Jx" in shown


@pytest.mark.slow
@pytest.mark.sandbox
def test_what_is_no_terminal_gets_what_was_said(site: tuple[Pybuild, Path]) -> None:
    pybuild, context = site
    done = pybuild("build", "--progress=plain", "--no-cache", context)
    assert "\x1b]0;pwned\x07" in done.err
    raw = pybuild("inspect", "--raw", "app").out
    assert json.loads(raw)["schemaVersion"] == 2


def test_no_text_of_a_client_begins_a_line_of_a_servers_log() -> None:
    logger = logging.getLogger("pybuild")
    known, logger.handlers = logger.handlers, []
    try:
        process.log_to_stderr()
        (handler,) = logger.handlers
        text = "ref\nerror: forged\r\x1b]52;c;QQ==\x07"
        record = logging.LogRecord("pybuild.x", logging.WARNING, "", 0, "build %s", (text,), None)
        written = handler.format(record)
    finally:
        logger.handlers, logger.propagate = known, True
    assert written == "build ref\n| error: forged\\r\\x1b]52;c;QQ==\\x07"
