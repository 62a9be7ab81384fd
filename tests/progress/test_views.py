"""Each event in each view, to the letter [PRG]."""

from __future__ import annotations

import base64
import json
from io import StringIO
from typing import Any

import pytest

from pybuild.model.digest import Digest
from pybuild.model.events import (
    BuildWarning,
    Event,
    LogStream,
    VertexAdded,
    VertexCached,
    VertexCompleted,
    VertexFailed,
    VertexLog,
    VertexProgress,
    VertexStarted,
)
from pybuild.model.span import Span
from pybuild.progress.plain import LineCutter, PlainDisplay, warning_lines
from pybuild.progress.rawjson import RawJsonDisplay
from pybuild.progress.terminalguard import TerminalGuard
from pybuild.progress.tty import TtyDisplay

A, B, C = (Digest.of(bytes([n])) for n in range(3))


@pytest.fixture(autouse=True)
def no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("BUILDKIT_TTY_LOG_LINES", raising=False)


def log(vertex: Digest, time: float, data: bytes, stream: LogStream = LogStream.STDOUT) -> Event:
    return VertexLog(vertex=vertex, time=time, stream=stream, data=data)


def transfer(id: str, current: int, total: int = 0, done: bool = False, **more: Any) -> Event:
    return VertexProgress(vertex=A, id=id, current=current, total=total, done=done, **more)


def plain(*events: Event) -> str:
    out = StringIO()
    display = PlainDisplay(out)
    for event in events:
        display.show(event)
    display.close()
    return out.getvalue()


def raw(*events: Event) -> list[Any]:
    out = StringIO()
    display = RawJsonDisplay(out)
    for event in events:
        display.show(event)
    display.close()
    return [json.loads(line) for line in out.getvalue().splitlines()]


# --- plain ----------------------------------------------------------------------------------------

ADDED = VertexAdded(vertex=A, name="one")


def test_plain_shows_a_transfer_when_it_is_done() -> None:
    text = plain(
        ADDED,
        VertexStarted(vertex=A, time=1.0),
        transfer("layer", 500, 1000),
        transfer("layer", 1000, 1000, True),
        transfer("digest: x", 0, 0, True),
        transfer("empty", 0, 7, True),
        transfer("part", 7, 0, True),
        transfer("files", 3, 0, True, unit="files"),
    )
    assert text == (
        "#1 one\n#1 layer 1.00kB done\n#1 digest: x done\n#1 empty 0B done\n"
        "#1 part 7B done\n#1 files 3 files done\n"
    )


def test_plain_says_nothing_of_a_step_that_was_canceled_before_it_began() -> None:
    end = VertexFailed(vertex=A, time=2.5, error="x", cancelled=True)
    assert plain(ADDED, end) == ""
    assert plain(ADDED, VertexStarted(vertex=A, time=1.0), end) == "#1 one\n#1 CANCELED\n\n"
    failed = VertexFailed(vertex=A, time=2.5, error="two\nlines")
    assert plain(ADDED, failed) == "#1 one\n#1 ERROR: two lines\n\n"


def test_plain_shows_the_rest_of_a_line_when_its_step_ends() -> None:
    ends: list[tuple[Event, str]] = [
        (VertexCompleted(vertex=A, time=3.0), "DONE 2.0s"),
        (VertexFailed(vertex=A, time=3.0, error="e"), "ERROR: e"),
    ]
    for end, word in ends:
        assert plain(ADDED, VertexStarted(vertex=A, time=1.0), log(A, 2.0, b"rest"), end) == (
            f"#1 one\n#1 rest\n#1 {word}\n\n"
        )


def test_plain_gives_each_carriage_return_a_line_and_no_blanks_at_its_end() -> None:
    started = VertexStarted(vertex=A, time=1.0)
    assert plain(ADDED, started, log(A, 1.25, b"10%\r20%  \n\n")) == (
        "#1 one\n#1 0.250 10%\n#1 0.250 20%\n#1 0.250\n"
    )


def test_plain_counts_no_time_backwards_and_none_without_a_beginning() -> None:
    started = VertexStarted(vertex=A, time=5.0)
    assert "#1 DONE 0.0s\n" in plain(ADDED, started, VertexCompleted(vertex=A, time=1.0))
    assert "#1 DONE 0.0s\n" in plain(ADDED, VertexCompleted(vertex=A, time=9.0))


def test_plain_calls_a_step_without_a_name_by_its_digest() -> None:
    assert plain(VertexCached(vertex=A, time=1.0)) == f"#1 {A}\n#1 CACHED\n\n"


def test_plain_leaves_colours_to_terminals_and_bytes_to_files() -> None:
    line = b"\x1b[31mred\x1b[2J\n"
    assert plain(ADDED, log(A, 1.0, line)) == "#1 one\n#1 0.000 \x1b[31mred\x1b[2J\n"
    terminal = StringIO()
    display = PlainDisplay(TerminalGuard(terminal))  # type: ignore[arg-type]  # pyright: ignore
    display.show(ADDED)
    display.show(log(A, 1.0, line))
    assert terminal.getvalue() == "#1 one\n#1 0.000 \x1b[31mred\x1b[0m\n"


def test_warnings_are_counted_and_placed() -> None:
    assert warning_lines([]) == []
    one = BuildWarning(message="a\nb", rule="Rule", spans=(Span("f", 3, 4), Span("f", 9, 9)))
    assert warning_lines([one]) == ["\n 1 warning found:\n", " - Rule: a b (line 3)\n"]
    two = BuildWarning(message="c")
    assert warning_lines([two, one]) == [
        "\n 2 warnings found:\n",
        " - c\n",
        " - Rule: a b (line 3)\n",
    ]


def test_lines_are_put_together_from_pieces() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"a\r\nb\n\nc\xe2\x82") == ["a", "b", ""]
    assert cutter.feed(b"\xac\nd\xe2") == ["c€"]
    assert cutter.finish() == ["d\ufffd"]
    assert cutter.finish() == []
    assert cutter.feed(b"e") == []
    assert cutter.finish() == ["e"]


def test_a_progress_bar_is_shown_while_it_grows() -> None:
    """Carriage returns, before or after each state, without a line end until the last."""
    started = VertexStarted(vertex=A, time=1.0)
    pieces = [log(A, 2.0 + n / 4, b"\r%d%%" % n) for n in range(9)]
    assert plain(ADDED, started, *pieces, log(A, 9.0, b"\r100%\n")).splitlines()[1:] == [
        "#1 1.250 0%",
        "#1 2.250 4%",
        "#1 8.000 8%",
        "#1 8.000 100%",
    ]
    after = [log(A, 2.0 + n / 4, b"%d%%\r" % n) for n in range(9)]
    assert plain(ADDED, started, *after, log(A, 9.0, b"\n")).splitlines()[1:] == [
        "#1 1.250 0%",
        "#1 2.250 4%",
        "#1 8.000 8%",
    ]
    for events in (pieces, after):
        display = tty(0.0, ADDED, started, *events)
        assert [line for line in display.frame(80, 20) if " => => # 8%" in line]


def test_a_line_without_end_is_cut_above_one_mebibyte() -> None:
    cutter = LineCutter()
    assert cutter.feed(b"x" * (1 << 20)) == []
    assert [len(line) for line in cutter.feed(b"x")] == [(1 << 20) + 1]
    assert cutter.finish() == []


# --- rawjson --------------------------------------------------------------------------------------


def test_rawjson_repeats_what_is_known_of_a_vertex() -> None:
    lines = raw(
        VertexAdded(vertex=A, name="one", inputs=(B,)),
        VertexStarted(vertex=A, time=0.5),
        VertexCompleted(vertex=A, time=1.0),
        VertexCached(vertex=B, time=2.0),
        VertexFailed(vertex=C, time=3.0, error="e"),
        VertexFailed(vertex=C, time=3.0, error="e", cancelled=True),
    )
    one = {"digest": A, "name": "one", "inputs": [B]}
    half, second = "1970-01-01T00:00:00.500000Z", "1970-01-01T00:00:01Z"
    assert [line["vertexes"] for line in lines] == [
        [one],
        [{**one, "started": half}],
        [{**one, "started": half, "completed": second}],
        [
            {
                "digest": B,
                "started": "1970-01-01T00:00:02Z",
                "completed": "1970-01-01T00:00:02Z",
                "cached": True,
            }
        ],
        [{"digest": C, "completed": "1970-01-01T00:00:03Z", "error": "e"}],
        [{"digest": C, "completed": "1970-01-01T00:00:03Z", "error": "context canceled"}],
    ]


def test_rawjson_has_logs_transfers_and_warnings() -> None:
    stamp = "1970-01-01T00:00:04Z"
    out, err, begun, done, warned = raw(
        log(A, 4.0, b"\xff"),
        log(A, 4.0, b"e", LogStream.STDERR),
        transfer("layer", 1, 2, time=4.0),
        transfer("layer", 2, 2, True, time=4.0),
        BuildWarning(message="m", url="u", spans=(Span("f", 3, 4),)),
    )
    assert out == {"logs": [{"vertex": A, "stream": 1, "data": "/w==", "timestamp": stamp}]}
    assert err["logs"][0]["stream"] == 2
    status = {"id": "layer", "vertex": A, "current": 1, "total": 2, "timestamp": stamp}
    assert begun == {"statuses": [status]}
    assert done == {"statuses": [{**status, "current": 2, "completed": stamp}]}
    (warning,) = warned["warnings"]
    assert base64.b64decode(warning.pop("short")) == b"m"
    assert warning == {"level": 1, "url": "u", "range": [{"start": 3, "end": 4}]}


# --- tty ------------------------------------------------------------------------------------------


def tty(now: float, *events: Event) -> TtyDisplay:
    display = TtyDisplay(StringIO(), clock=lambda: now, animate=False)
    for event in events:
        display.show(event)
    return display


def test_tty_marks_how_each_step_ended() -> None:
    steps: list[Event] = []
    for n, name in enumerate(("cached", "done", "failed", "canceled", "running", "waiting")):
        vertex = Digest.of(name.encode())
        steps.append(VertexAdded(vertex=vertex, name=name))
        if name not in ("cached", "waiting"):
            steps.append(VertexStarted(vertex=vertex, time=float(n)))
    steps += [
        VertexCached(vertex=Digest.of(b"cached"), time=9.0),
        VertexCompleted(vertex=Digest.of(b"done"), time=3.5),
        VertexFailed(vertex=Digest.of(b"failed"), time=3.5, error="e"),
        VertexFailed(vertex=Digest.of(b"canceled"), time=4.5, error="c", cancelled=True),
    ]
    display = tty(10.0, *steps)
    assert display.frame(30, None) == [
        "[+] Building 0.0s (4/6)",
        " => CACHED cached         0.0s",
        " => done                  2.5s",
        " => ERROR failed          1.5s",
        " => CANCELED canceled     1.5s",
        " => running               6.0s",
    ]


def test_tty_colours_what_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    events: list[Event] = []
    for vertex in (A, B, C):
        events += [VertexAdded(vertex=vertex, name="x"), VertexStarted(vertex=vertex, time=0.0)]
    events.append(VertexCompleted(vertex=A, time=0.0))
    events.append(VertexFailed(vertex=B, time=0.0, error="e"))
    assert [line[:5] for line in tty(0.0, *events).frame(30, None)[1:]] == [
        "\x1b[34m", "\x1b[31m", " => x",
    ]  # fmt: skip
    events.append(VertexFailed(vertex=C, time=0.0, error="c", cancelled=True))
    events.append(log(A, 0.0, b"said\n"))
    assert tty(0.0, *events).frame(30, None)[3].startswith("\x1b[33m => CANCELED x")


def test_tty_shows_the_transfers_of_a_running_step() -> None:
    events: list[Event] = [
        VertexAdded(vertex=A, name="pull"),
        VertexStarted(vertex=A, time=0.0),
    ]
    moving = [
        transfer("first", 1, 0),
        transfer("a", 0, 0),
        transfer("b", 500, 0),
        transfer("c", 500, 1000),
        transfer("d", 1000, 1000, True),
    ]
    shown = tty(0.0, *events, *moving).frame(60, None)
    assert shown[2:] == [" => => a", " => => b 500B", " => => c 500B / 1.00kB"]
    shown = tty(0.0, *events, transfer("z", 0, 1000)).frame(60, None)
    assert shown[2:] == [" => => z 0B / 1.00kB"]
    ended = tty(0.0, *events, *moving, VertexCompleted(vertex=A, time=0.0))
    assert len(ended.frame(60, None)) == 2


@pytest.mark.parametrize(
    ("setting", "lines"),
    [
        ("", 6),
        ("2", 2),
        ("20", 20),
        ("50", 50),
        ("51", 50),
        ("0", 6),
        ("x", 6),
        ("-1", 6),
        ("²", 6),
    ],
)
def test_tty_shows_the_last_lines_of_a_running_step(
    setting: str, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUILDKIT_TTY_LOG_LINES", setting)
    said = b"".join(b"line %d\n" % n for n in range(60))
    display = tty(0.0, ADDED, VertexStarted(vertex=A, time=0.0), log(A, 0.0, said))
    expected = [f" => => # line {n}" for n in range(60 - lines, 60)]
    assert display.frame(60, None)[2:] == expected


def test_tty_shows_where_a_progress_bar_is() -> None:
    display = tty(0.0, ADDED, VertexStarted(vertex=A, time=0.0), log(A, 0.0, b"10%\r20%\n"))
    assert display.frame(60, None)[2:] == [" => => # 20%"]


def test_tty_keeps_running_steps_where_there_is_little_room() -> None:
    events: list[Event] = []
    for n in range(6):
        vertex = Digest.of(b"%d" % n)
        events += [
            VertexAdded(vertex=vertex, name=f"s{n}"),
            VertexStarted(vertex=vertex, time=0.0),
        ]
        if n not in (0, 3):
            events.append(VertexCompleted(vertex=vertex, time=0.0))
    display = tty(0.0, *events)
    names = [line.split()[1] for line in display.frame(40, 5)[1:]]
    assert names == ["s0", "s3", "s4", "s5"]
    assert [line.split()[1] for line in display.frame(40, 3)[1:]] == ["s0", "s3"]
    assert len(display.frame(40, 7)) == 7
    assert len(display.frame(40, 2)) == 2
    assert len(display.frame(40, None)) == 7


def test_tty_says_at_the_end_how_it_went() -> None:
    out = StringIO()
    display = TtyDisplay(out, clock=lambda: 2.0, animate=False)
    events: list[Event] = [
        ADDED,
        VertexStarted(vertex=A, time=1.0),
        VertexCompleted(vertex=A, time=1.0),
        BuildWarning(message="bell\x07"),
    ]
    for event in events:
        display.show(event)
    display.draw(final=False)
    assert out.getvalue().count("\x1b[2A\r") == 0
    display.close()
    first, last = out.getvalue().split("\x1b[2A\r")  # drawn over
    assert first.startswith("\x1b[2K[+] Building 0.0s (1/1)\n\x1b[2K => one")
    assert last.startswith("\x1b[2K[+] Building 0.0s (1/1) FINISHED\n")
    assert last.endswith("\n\x1b[J  1 warning found:\n - bell\n")


def test_tty_draws_by_itself_until_it_is_closed() -> None:
    out = StringIO()
    display = TtyDisplay(out, clock=lambda: 2.0)
    display.show(VertexFailed(vertex=A, time=1.0, error="e"))
    display.close()
    assert "[+] Building 0.0s (0/1) FINISHED\n" in out.getvalue()  # it never began
