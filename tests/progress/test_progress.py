"""The event stream as people see it [PRG]."""

import json
import re
import sys
import time
from io import StringIO

import pytest

from pybuild.model.amounts import human_bytes
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
    VertexStarted,
)
from pybuild.progress.pausing import PausableDisplay
from pybuild.progress.plain import LineCutter, PlainDisplay
from pybuild.progress.rawjson import RawJsonDisplay
from pybuild.progress.screen import show_steps
from pybuild.progress.tty import TtyDisplay

A, B, C = (Digest.of(bytes([n])) for n in range(3))


def log(vertex: Digest, time: float, data: bytes) -> VertexLog:
    return VertexLog(vertex=vertex, time=time, stream=LogStream.STDOUT, data=data)


STORY: list[Event] = [
    VertexAdded(vertex=A, name="[1/3] FROM base"),
    VertexAdded(vertex=B, name="[2/3] RUN make"),
    VertexAdded(vertex=C, name="[3/3] RUN test"),
    VertexCached(vertex=A, time=10.0),
    VertexStarted(vertex=B, time=10.0),
    VertexStarted(vertex=C, time=10.5),
    log(B, 10.75, b"one\ntw"),
    log(C, 11.0, b"\xc3"),
    log(B, 11.0, b"o\n"),
    log(C, 11.25, b"\xa4rger\n"),
    VertexCompleted(vertex=B, time=11.5),
    VertexFailed(vertex=C, time=12.0, error="exit code: 3"),
    BuildWarning(message="Stage name 'X' should be lowercase", rule="StageNameCasing"),
]


def plain(*events: Event) -> str:
    out = StringIO()
    display = PlainDisplay(out)
    for event in events:
        display.show(event)
    display.close()
    return out.getvalue()


def test_plain_writes_each_step_as_one_block_also_where_they_overlap() -> None:  # UI-4
    assert plain(*STORY) == (
        "#1 [1/3] FROM base\n#1 CACHED\n\n"
        "#2 [2/3] RUN make\n#2 0.750 one\n#2 1.000 two\n#2 DONE 1.5s\n\n"
        "#3 [3/3] RUN test\n#3 0.750 ärger\n#3 ERROR: exit code: 3\n\n"
        "\n 1 warning found:\n - StageNameCasing: Stage name 'X' should be lowercase\n"
    )


def test_plain_gives_a_quick_step_three_lines_whatever_runs_beside_it() -> None:
    events: list[Event] = []
    for vertex, name in ((A, "WORKDIR /src"), (B, "COPY . ."), (C, "RUN make")):
        events += [VertexAdded(vertex=vertex, name=name), VertexStarted(vertex=vertex, time=1.0)]
    events += [VertexCompleted(vertex=vertex, time=1.5) for vertex in (C, A, B)]
    assert plain(*events) == (
        "#1 WORKDIR /src\n#1 DONE 0.5s\n\n"
        "#2 RUN make\n#2 DONE 0.5s\n\n"
        "#3 COPY . .\n#3 DONE 0.5s\n\n"
    )


BESIDE: list[Event] = [
    VertexAdded(vertex=A, name="RUN make"),
    VertexAdded(vertex=B, name="RUN test"),
    VertexStarted(vertex=A, time=10.0),
    VertexStarted(vertex=B, time=10.0),
    log(B, 10.5, b"one\n"),
]


def test_plain_lets_no_step_wait_for_long() -> None:
    """The one that is interrupted is named again when it goes on."""
    later: list[Event] = [log(A, 20.0, b"two\n"), VertexCompleted(vertex=B, time=20.5)]
    assert plain(*BESIDE, *later, VertexCompleted(vertex=A, time=21.0)) == (
        "#1 RUN make\n#1 10.000 two\n#1 ...\n\n"
        "#2 RUN test\n#2 0.500 one\n#2 DONE 10.5s\n\n"
        "#1 RUN make\n#1 DONE 11.0s\n\n"
    )


def test_plain_lets_no_step_wait_for_long_while_nothing_happens() -> None:
    out = StringIO()
    display = PlainDisplay(out, patience_s=0.01)
    for event in BESIDE:
        display.show(event)
    deadline = time.monotonic() + 60
    while not out.getvalue().endswith("one\n") and time.monotonic() < deadline:
        time.sleep(0.01)
    display.close()
    assert out.getvalue() == "#1 RUN make\n#1 ...\n\n#2 RUN test\n#2 0.500 one\n"


def test_plain_does_not_keep_much_of_what_waits() -> None:
    text = plain(*BESIDE, log(B, 10.5, b"x\n" * 2000), VertexCompleted(vertex=A, time=10.5))
    assert text.index("#1 ...") < text.index("#2 0.500 x") < text.index("#1 DONE")


def test_plain_shows_a_failure_at_once_and_at_the_end_what_waits() -> None:
    failed = VertexFailed(vertex=C, time=10.6, error="exit code: 3")
    added: list[Event] = [
        VertexAdded(vertex=C, name="RUN lint"),
        VertexStarted(vertex=C, time=10.0),
    ]
    assert plain(*BESIDE, *added, failed) == (
        "#1 RUN make\n#1 ...\n\n#2 RUN lint\n#2 ERROR: exit code: 3\n\n#3 RUN test\n#3 0.500 one\n"
    )


def test_a_cached_build_shows_what_the_views_would_have_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It makes no events: the same lines come of its memo, names of others included."""
    steps = [["[internal] load build context", "DONE 0.0s"], ["[1/2] FROM 基\n本", "CACHED"]]
    steps.append(["[2/2] RUN \x1b[2J" + "x" * 90, "CACHED"])
    events: list[Event] = []
    for vertex, (name, word) in zip((A, B, C), steps, strict=True):
        events += [VertexAdded(vertex=vertex, name=name), VertexStarted(vertex=vertex, time=1.0)]
        end = VertexCached if word == "CACHED" else VertexCompleted
        events.append(end(vertex=vertex, time=1.0))
    for kind in ("plain", "tty"):
        out, cached = StringIO(), StringIO()
        view = PlainDisplay(out) if kind == "plain" else TtyDisplay(out, lambda: 1.0, animate=False)
        for event in events:
            view.show(event)
        view.close()
        monkeypatch.setattr(sys, "stderr", cached)
        show_steps(steps, kind)
        assert cached.getvalue() == re.sub(r"\x1b\[2K|\x1b\[J", "", out.getvalue())


def test_rawjson_prints_one_object_a_line_with_buildkits_keys() -> None:
    out = StringIO()
    display = RawJsonDisplay(out)
    for event in STORY:
        display.show(event)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert {key for line in lines for key in line} == {"vertexes", "logs", "warnings"}
    last = [v for line in lines for v in line.get("vertexes", ()) if v["digest"] == C][-1]
    assert last["error"] == "exit code: 3"


def test_tty_shows_running_steps_with_their_last_lines_and_a_final_count() -> None:
    out = StringIO()
    display = TtyDisplay(out, clock=lambda: 12.0, animate=False)
    for event in STORY[:8]:
        display.show(event)
    running = display.frame(60, 20)
    assert running[0] == "[+] Building 0.0s (1/3)"
    assert any("CACHED [1/3] FROM base" in line for line in running)
    assert any("=> => # one" in line for line in running)
    for event in STORY[8:]:
        display.show(event)
    display.close()
    assert "(3/3) ERROR" in out.getvalue()
    assert "ERROR [3/3] RUN test" in out.getvalue()


@pytest.mark.parametrize("kind", ["tty", "plain"])
def test_a_view_that_makes_way_writes_nothing_and_shows_all_afterwards(kind: str) -> None:
    out = StringIO()
    view = PlainDisplay(out) if kind == "plain" else TtyDisplay(out, lambda: 12.0, animate=False)
    display = PausableDisplay(view)
    for event in STORY[:8]:
        display.show(event)
    display.pause()
    shown = out.getvalue()
    assert "FROM base" in shown
    for event in STORY[8:]:
        display.show(event)
    assert out.getvalue() == shown
    display.resume()
    display.close()
    more = out.getvalue().removeprefix(shown)
    assert "RUN test" in more
    assert not re.match(r"\x1b\[\d+A", more)  # no line of somebody else is drawn over


def test_tty_never_draws_more_lines_than_the_terminal_has() -> None:
    display = TtyDisplay(StringIO(), clock=lambda: 0.0, animate=False)
    for number in range(100):
        vertex = Digest.of(b"%d" % number)
        display.show(VertexAdded(vertex=vertex, name=f"step {number}"))
        display.show(VertexStarted(vertex=vertex, time=0.0))
    assert len(display.frame(80, 10)) <= 10


def test_tty_takes_control_sequences_out_of_what_steps_write() -> None:
    out = StringIO()
    display = TtyDisplay(out, clock=lambda: 0.0, animate=False)
    display.show(VertexAdded(vertex=A, name="x\x1b[2J"))
    display.show(VertexStarted(vertex=A, time=0.0))
    display.show(log(A, 0.0, b"\x1b[31mred\x1b[0m\x07\x9b2J\n"))
    frame = "\n".join(display.frame(80, 20))
    assert "red" in frame
    assert "\x1b[2J" not in frame and "\x07" not in frame


def test_plain_writes_the_lines_of_a_piece_at_once_and_each_as_it_was_said() -> None:
    class Counting(StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            return super().write(text)

    out = Counting()
    display = PlainDisplay(out)
    display.show(VertexAdded(vertex=A, name="RUN make"))
    display.show(VertexStarted(vertex=A, time=1.0))
    before = out.writes
    display.show(log(A, 1.5, b"plain\nspaces \t\n\nends\r\nbar 1\rbar 2\n" + b"line\n" * 1000))
    assert out.writes == before + 1
    display.show(log(A, 2.0, b"late\r\nunfinished"))
    display.show(VertexCompleted(vertex=A, time=2.0))
    said = ["plain", "spaces", "", "ends", "bar 1", "bar 2"] + ["line"] * 1000
    stamped = [f"#1 0.500 {line}".rstrip() for line in said]
    ending = ["#1 1.000 late", "#1 unfinished", "#1 DONE 1.0s", "", ""]
    assert out.getvalue().split("\n") == ["#1 RUN make", *stamped, *ending]


def test_a_line_without_end_does_not_grow_without_bound() -> None:
    cutter = LineCutter()
    lines = [line for _ in range(40) for line in cutter.feed(b"x" * 100_000)]
    assert lines and max(map(len, lines)) < 1_200_000


def test_bytes_are_printed_as_docker_prints_them() -> None:
    assert [human_bytes(n) for n in (512, 3420, 29_130_000)] == ["512B", "3.42kB", "29.13MB"]
