"""Instructions that end in the config, and the history texts: section 14 to the letter."""

from __future__ import annotations

from typing import Any

import pytest

from pybuild.frontend.lowering.imageconfig import ImageConfig
from pybuild.frontend.lowering.interface import HistoryItem
from pybuild.frontend.words.gotext import duration, quote
from pybuild.model.errors import UserError
from pybuild.model.ops import Copy, ExecOp, FileOp, Mkdir, walk
from pybuild.model.platform import Platform
from tests.frontend.lowering import PATH, build, image, texts

EVERYTHING = r"""# a comment
FROM alpine
ARG A=1 B
ARG C
ENV X=1 Y="two words"
ENV old  style value
LABEL "com.x"="a b" y=
MAINTAINER me <me@x>
USER me:us
WORKDIR /app
WORKDIR sub
WORKDIR ../other/
SHELL ["/bin/bash", "-e", "-c"]
RUN --network=none echo "$A"
RUN ["/bin/echo", "a b"]
COPY --chown=1:2 --chmod=755 a b$X /d/
ADD c /e
COPY <<ONE <<TWO f /docs/
one
ONE
two
TWO
EXPOSE 443 80 8000-8002/UDP
VOLUME /a /b /d
VOLUME ["/e f"]
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=90s --timeout=1.5s --retries=3 CMD curl -f http://x
ONBUILD RUN later
CMD run "it"
ENTRYPOINT ["/e", "a\tb"]
WORKDIR /
"""

HISTORY = """\
  ARG A=1 B
  ARG C=given
  ENV X=1 Y=two words
  ENV old=style value
  LABEL com.x=a b y=
  MAINTAINER me <me@x>
  USER me:us
+ WORKDIR /app
+ WORKDIR /app/sub
+ WORKDIR /app/other
  SHELL [/bin/bash -e -c]
+ RUN |3 A=1 B= C=given /bin/bash -e -c echo "$A" # buildkit
+ RUN |3 A=1 B= C=given /bin/echo a b # buildkit
+ COPY --chown=1:2 --chmod=755 a b1 /d/ # buildkit
+ ADD c /e # buildkit
+ COPY f <<ONE <<TWO /docs/ # buildkit
  EXPOSE [443/tcp 80/tcp 8000/udp 8001/udp 8002/udp]
  VOLUME [/a /b /d]
  VOLUME [/e f]
  STOPSIGNAL SIGQUIT
  HEALTHCHECK {Test:[CMD-SHELL curl -f http://x] Interval:1m30s Timeout:1.5s StartPeriod:0s\
 StartInterval:0s Retries:3}
  CMD ["/bin/bash" "-e" "-c" "run \\"it\\""]
  ENTRYPOINT ["/e" "a\\tb"]
  WORKDIR /
"""


def test_history_of_every_instruction() -> None:
    text = EVERYTHING
    lowered = build(text, build_args={"C": "given"})
    want = HISTORY
    assert "\n".join(texts(lowered)) + "\n" == want
    assert {item.comment for item in lowered.history} == {"buildkit.dockerfile.v0"}


def test_config_of_every_instruction() -> None:
    lowered = build(EVERYTHING)
    assert lowered.config == {
        "architecture": "amd64",
        "os": "linux",
        "author": "me <me@x>",
        "config": {
            "User": "me:us",
            "ExposedPorts": {
                "443/tcp": {},
                "80/tcp": {},
                "8000/udp": {},
                "8001/udp": {},
                "8002/udp": {},
            },
            "Env": [PATH, "X=1", "Y=two words", "old=style value"],
            "Entrypoint": ["/e", "a\tb"],
            "Cmd": ["/bin/bash", "-e", "-c", 'run "it"'],
            "ArgsEscaped": True,
            "Volumes": {"/a": {}, "/b": {}, "/d": {}, "/e f": {}},
            "WorkingDir": "/",
            "Labels": {"com.x": "a b", "y": ""},
            "StopSignal": "SIGQUIT",
            "Shell": ["/bin/bash", "-e", "-c"],
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl -f http://x"],
                "Interval": 90_000_000_000,
                "Timeout": 1_500_000_000,
                "Retries": 3,
            },
            "OnBuild": ["RUN later"],
        },
        "history": [{"created_by": "layer 0"}],
    }
    assert lowered.base_layer_count == 1


def test_each_layer_has_its_own_vertex() -> None:
    lowered = build(EVERYTHING)
    layers = [item.vertex.digest for item in lowered.history if item.vertex is not None]
    assert len(layers) == len(set(layers)) == 8
    assert layers[-1] == lowered.result.digest


def test_unknown_fields_of_the_base_are_kept_and_old_ones_of_its_build_are_not() -> None:
    base: dict[str, Any] = {
        **image(Tty=True, Memory=5),
        "created": "then",
        "docker_version": "1",
        "container": "c",
        "container_config": {},
        "os.features": ["f"],
        "x-own": {"a": [1]},
    }
    config = build("FROM a\nENV B=c\n", images={"a": base}).config
    assert config == {
        "architecture": "amd64",
        "os": "linux",
        "os.features": ["f"],
        "x-own": {"a": [1]},
        "config": {"Tty": True, "Memory": 5, "Env": [PATH, "B=c"]},
        "history": [{"created_by": "layer 0"}],
    }
    assert base["config"]["Env"] == [PATH]  # what was handed in is not touched


def test_base_history_is_made_to_fit_its_layers() -> None:  # CFG-3
    few = image(2)
    few["history"] = [{"created_by": "a", "empty_layer": True}, {"created_by": "b"}]
    many = image(1)
    many["history"] = [{"created_by": "a"}, {"created_by": "b"}]
    images = {"few": few, "many": many}
    assert build("FROM few\n", images=images).config["history"] == [
        {"created_by": "a", "empty_layer": True},
        {"created_by": "b"},
        {"comment": "buildkit.exporter.image.v0"},
    ]
    assert build("FROM many\n", images=images).config["history"] == [
        {"created_by": "a", "empty_layer": True},
        {"created_by": "b"},
    ]


@pytest.mark.parametrize(
    ("text", "entrypoint", "cmd"),
    [
        ("ENTRYPOINT []", None, None),  # E44
        ('ENTRYPOINT ["y"]', ["y"], None),  # E45
        ('CMD ["z"]\nENTRYPOINT ["y"]', ["y"], ["z"]),  # E46
        ('ENTRYPOINT ["y"]\nCMD ["z"]', ["y"], ["z"]),
        ("CMD []", ["e"], None),
        ("USER x", ["e"], ["x"]),
        ('FROM x\nCMD ["own"]\nFROM one\nENTRYPOINT ["y"]', ["y"], None),
        ("ENTRYPOINT y z", ["/bin/sh", "-c", "y z"], None),
    ],
)
def test_entrypoint_and_cmd(text: str, entrypoint: object, cmd: object) -> None:
    base = image(Entrypoint=["e"], Cmd=["x"])
    config = build(f"FROM a AS one\n{text}\n", images={"a": base}).config["config"]
    assert (config.get("Entrypoint"), config.get("Cmd")) == (entrypoint, cmd)


def test_history_of_cleared_commands() -> None:
    assert texts(build("FROM a\nCMD []\nENTRYPOINT []\n")) == ["  CMD []", "  ENTRYPOINT []"]


def test_expose_forms() -> None:  # E49, E50
    lowered = build("FROM a\nEXPOSE 80 443/TCP 8000-8002/udp\n")
    want = ["443/tcp", "80/tcp", "8000/udp", "8001/udp", "8002/udp"]
    assert sorted(lowered.config["config"]["ExposedPorts"]) == want
    assert [w.rule for w in lowered.warnings] == ["ExposeProtoCasing"]
    lowered = build('FROM a\nENV P="80 81"\nEXPOSE $P\n')
    assert texts(lowered)[-1] == "  EXPOSE [80/tcp 81/tcp]"
    lowered = build("FROM a\nEXPOSE 127.0.0.1:80:81 [::1]:1-2:3-4/sctp 5:6\n")
    assert texts(lowered)[-1] == "  EXPOSE [81/tcp 6/tcp 3/sctp 4/sctp]"
    assert [w.rule for w in lowered.warnings] == ["ExposeInvalidFormat"] * 3


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ('"$P"', "invalid containerPort: 80 81"),  # E51
        ("80/icmp", 'invalid port: "80/icmp": invalid proto: icmp'),
        ("/tcp", 'invalid port: "/tcp": no port specified'),
        ("x", "invalid containerPort: x"),
        ("65536", "invalid containerPort: 65536"),
        ("9-8", "invalid containerPort: 9-8"),
        ("1-", "invalid containerPort: 1-"),
        ("١", "invalid containerPort: ١"),
        ("h:80:81", "invalid IP address: h"),
        ("x:81", "invalid hostPort: x"),
        ("1-3:4-5", "invalid ranges specified for container and host Ports: 4-5 and 1-3"),
    ],
)
def test_bad_ports(word: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f"FROM a\nENV P='80 81'\nEXPOSE {word}\n")
    assert caught.value.message == message
    assert caught.value.spans[0].first_line == 3


def test_interval_of_zero_is_the_default() -> None:  # E53
    lowered = build('FROM a\nHEALTHCHECK --interval=0 CMD ["x"]\n')
    assert lowered.config["config"]["Healthcheck"] == {"Test": ["CMD", "x"]}
    lowered = build("FROM a\nHEALTHCHECK NONE\n")
    assert texts(lowered) == [
        (
            "  HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s"
            " Retries:0}"
        )
    ]


def test_user_is_one_text() -> None:  # E54
    assert build("FROM a\nUSER a b\n").config["config"]["User"] == "a b"


def test_workdirs_join() -> None:  # E55
    lowered = build("FROM a\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c\n")
    assert lowered.config["config"]["WorkingDir"] == "/a/c"
    assert texts(lowered) == ["+ WORKDIR /a", "+ WORKDIR /a/b", "+ WORKDIR /a/c"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("/a/", "/a/"),
        ("/a/../b", "/a/../b"),
        ("//a", "//a"),
        ("..", "/"),
        ("", "/in/base"),
        ("x/", "x"),
    ],
)
def test_only_a_relative_workdir_is_cleaned(written: str, shown: str) -> None:
    base = image(WorkingDir="in/base" if written == "" else "/base")
    text = f"FROM a\nENV E=\nWORKDIR {written or '$E'}\n"
    want = shown if shown.startswith("/") else f"/base/{shown}"
    config = build(text, images={"a": base}).config["config"]
    assert config["WorkingDir"] == want


def test_steps_and_copies_are_where_a_workdir_leads() -> None:
    lowered = build("FROM a\nWORKDIR /w/../v\nRUN true\nCOPY f .\nWORKDIR x\n")
    assert texts(lowered)[0] == "+ WORKDIR /w/../v" and texts(lowered)[3] == "+ WORKDIR /v/x"
    ops = [vertex.op for vertex in walk(lowered.result)]
    [step] = [op for op in ops if isinstance(op, ExecOp)]
    assert step.cwd == "/v"
    actions = [action for op in ops if isinstance(op, FileOp) for action in op.actions]
    assert [action.path for action in actions if isinstance(action, Mkdir)] == ["/v", "/v/x"]
    assert [action.dest for action in actions if isinstance(action, Copy)] == ["/v/"]


def test_env_replaces_in_place_and_sees_the_line_before() -> None:  # E38, EV-7
    lowered = build("FROM a\nENV abc=hello z=1\nENV abc=bye def=$abc\nENV ghi=$abc\n")
    assert lowered.config["config"]["Env"] == [PATH, "abc=bye", "z=1", "def=hello", "ghi=bye"]


def test_path_is_always_there() -> None:  # EV-9
    base = image(Env=["A=b"])
    assert build("FROM a\n", images={"a": base}).config["config"]["Env"] == ["A=b", PATH]
    base = image(Env=["PATH=/own"])
    assert build("FROM a\n", images={"a": base}).config["config"]["Env"] == ["PATH=/own"]


@pytest.mark.parametrize("signal", ["9", "TERM", "sigterm", "SIGRTMIN+3", "RTMAX-14", "64"])
def test_signals(signal: str) -> None:
    assert build(f"FROM a\nSTOPSIGNAL {signal}\n").config["config"]["StopSignal"] == signal


@pytest.mark.parametrize("signal", ["0", "NOPE", "SIG", "RTMIN+16", "RTMIN+03", "+-5", "٣"])
def test_bad_signals(signal: str) -> None:
    with pytest.raises(UserError, match="invalid signal: "):
        build(f"FROM a\nSTOPSIGNAL {signal}\n")


def test_volume_must_have_a_name() -> None:  # VOL-1
    with pytest.raises(UserError, match="VOLUME specified can not be an empty string"):
        build("FROM a\nVOLUME $NOTHING\n")


def test_labels_of_the_request_come_last() -> None:  # LBL-1
    base = image(Labels={"a": "base", "b": "base"})
    lowered = build(
        "FROM a\nLABEL a=file c=file\n", images={"a": base}, labels={"c": "cli", "d": "cli"}
    )
    want = {"a": "file", "b": "base", "c": "cli", "d": "cli"}
    assert lowered.config["config"]["Labels"] == want


def test_forced_platform_keeps_or_drops_the_variant() -> None:  # FROM-9
    v7 = Platform.parse("linux/arm/v7")
    base = {**image(platform=v7), "variant": "v7"}
    amd = Platform.parse("linux/amd64")
    config = build(
        "FROM a\n", images={"a": base}, target_platform=amd, platform_explicit=True
    ).config
    assert (config["architecture"], config.get("variant")) == ("amd64", None)
    config = build(
        "FROM a\n", images={"a": base}, target_platform=v7, platform_explicit=True
    ).config
    assert (config["architecture"], config.get("variant")) == ("arm", "v7")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_000_000, "2ms"),
        (1_500_000_000, "1.5s"),
        (30_000_000_000, "30s"),
        (60_000_000_000, "1m0s"),
        (3_600_000_000_000, "1h0m0s"),
        (100 * 3_600_000_000_000 + 1, "100h0m0.000000001s"),
        (-90_000_000_000, "-1m30s"),
    ],
)
def test_durations_as_go_prints_them(ns: int, text: str) -> None:
    assert duration(ns) == text


def test_quoting_as_go_does_it() -> None:
    assert quote('a"\\\n\x01\x7fé\u200b\U000e0001\udcff') == (
        r'"a\"\\\n\x01\x7fé\u200b\U000e0001\xff"'
    )


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("1ms", 10**6),
        ("1h2m3.5s", 3_723_500_000_000),
        (".5s", 5 * 10**8),
        ("9223372036854775807ns", 2**63 - 1),
    ],
)
def test_durations_are_gos(text: str, kept: int) -> None:
    lowered = build(f'FROM a\nHEALTHCHECK --interval={text} CMD ["x"]\n')
    assert lowered.config["config"]["Healthcheck"]["Interval"] == kept


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("999us", 'Interval "interval" cannot be less than 1ms'),
        ("1", 'time: missing unit in duration "1"'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("1s,", 'time: unknown unit "s," in duration "1s,"'),
    ],
)
def test_durations_that_are_none(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(f'FROM a\nHEALTHCHECK --interval={text} CMD ["x"]\n')
    assert caught.value.message == f"dockerfile parse error on line 2: {message}"


def test_a_stage_copies_all_of_the_config_that_it_stands_on() -> None:
    """Its size is a part of what a build may spend."""
    config = ImageConfig.of_image(image(2, Labels={"a": "1", "b": "2"}), 2, "base")
    size = config.size
    assert size == 1 + 2 + 2  # PATH, the labels, the layers
    config.added.append(HistoryItem(created_by="RUN x"))
    assert config.size == size + 1
