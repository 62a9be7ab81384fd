"""Names of steps, and the parts of a Dockerfile that count in their keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pybuild.model.errors import UserError
from pybuild.model.ops import (
    walk,
)
from tests.frontend.lowering import build, named

# --- names ----------------------------------------------------------------------------------------


def test_names_of_a_file_with_one_stage() -> None:  # UI-1
    lowered = build("FROM a\nENV V=1 Q='x'\ncopy a$V $NO/b\nRUN echo $V '$Q' $NO\nWORKDIR /$V\n")
    assert [n for n in named(lowered) if "FROM" not in n] == [
        "[internal] load build context",
        "[2/4] COPY a1 /b",
        "[3/4] RUN echo 1 '$Q' $NO",
        "[4/4] WORKDIR /1",
    ]


def test_names_of_several_stages() -> None:
    lowered = build("FROM a AS x\nRUN 1\nFROM scratch\nCOPY --from=x / /\n")
    assert [n for n in named(lowered) if n and "FROM" not in n] == [
        "[x 2/2] RUN 1",
        "[stage-1 1/1] COPY --from=x / /",
    ]


def test_counts_are_aligned() -> None:
    lowered = build("FROM a\n" + "RUN x\n" * 10)
    assert named(lowered)[1] == "[ 2/11] RUN x"


def test_names_with_platforms() -> None:  # UI-3
    text = (
        "FROM --platform=$BUILDPLATFORM a AS build\nRUN 1\nARG TARGETARCH\nRUN 2\n"
        "FROM b\nCOPY --from=build / /\n"
    )
    from pybuild.model.platform import Platform

    lowered = build(text, target_platform=Platform.parse("linux/arm64"), multi_platform=True)
    assert [n for n in named(lowered) if "FROM" not in n] == [
        "[linux/amd64 build 2/3] RUN 1",
        "[linux/amd64->arm64 build 3/3] RUN 2",
        "[linux/arm64 stage-1 2/2] COPY --from=build / /",
    ]


# --- what counts ----------------------------------------------------------------------------------

BASE = "FROM a\nARG A=1\nENV E=1\nWORKDIR /w\nCOPY x y\nRUN make\n"


@pytest.mark.parametrize(
    "text",
    [
        "# comment\nFROM a\n# more\n" + BASE.removeprefix("FROM a\n"),
        BASE.replace("FROM", "from").replace("RUN", "run").replace("COPY", "Copy"),
        BASE.replace("COPY x y", "COPY x \\\n  y").replace("RUN make", "RUN \\\nmake"),
        BASE.replace("COPY x y", "LABEL a=b\nCOPY x y"),
        BASE.replace(
            "RUN make",
            'CMD x\nENTRYPOINT ["y"]\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL 9\nHEALTHCHECK NONE\n'
            "MAINTAINER me\nONBUILD RUN z\nLABEL c=d\nRUN make",
        ),
        BASE.replace("COPY x y", "COPY $X y")
        .replace("RUN", "RUN")
        .replace("FROM a", "FROM a")
        .replace("$X", "./x"),
        "FROM a AS named\n" + BASE.removeprefix("FROM a\n"),
        "FROM z AS unused\nRUN never\n" + BASE,
    ],
)
def test_what_does_not_count(text: str) -> None:  # KEY-8
    assert build(text).result.digest == build(BASE).result.digest


@pytest.mark.parametrize(
    "change",
    [
        ("FROM a", "FROM b"),
        ("A=1", "A=2"),
        ("E=1", "E=2"),
        ("/w", "/v"),
        ("x y", "x z"),
        ("make", "make all"),
        ("RUN make", "USER u\nRUN make"),
        ("RUN make", 'SHELL ["sh", "-c"]\nRUN make'),
        ("RUN make", "RUN --network=none make"),
    ],
)
def test_what_counts(change: tuple[str, str]) -> None:  # KEY-1, KEY-8, KEY-10
    assert build(BASE.replace(*change)).result.digest != build(BASE).result.digest


def test_arg_does_not_change_copies() -> None:  # KEY-10
    one = build(BASE.replace("A=1", "A=2")).result.inputs[0]
    assert one == build(BASE).result.inputs[0]


_CHILD = """
import json, sys
sys.path.insert(0, sys.argv[1])
from tests.frontend.lowering import build
from tests.frontend.test_lower_config import EVERYTHING
lowered = build(EVERYTHING, named_contexts={"b": ".", "a": "."}, labels={"x": "1", "y": "2"},
                build_args={"C": "c", "B": "b", "HTTP_PROXY": "p"})
digests = [str(item.vertex.digest) for item in lowered.history if item.vertex]
print(json.dumps([digests, lowered.config, [w.message for w in lowered.warnings]]))
"""


@pytest.mark.slow
def test_definitions_are_the_same_in_every_process() -> None:
    here = str(Path(__file__).parents[2])
    outputs = {
        subprocess.run(
            [sys.executable, "-c", _CHILD, here],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    (output,) = outputs
    assert len(json.loads(output)[0]) == 8


@pytest.mark.parametrize("text", ["COPY [a /", "COPY --exclude=[a . /", "COPY --parents **/[a /"])
def test_malformed_patterns_name_their_line(text: str) -> None:  # IGN-7
    with pytest.raises(UserError, match="syntax error in pattern") as caught:
        build(f"FROM a\n{text}\n")
    assert caught.value.spans[0].first_line == 2


@pytest.mark.slow
def test_long_stages_are_lowered_in_linear_time() -> None:
    lowered = build("FROM a\n" + "RUN x\n" * 5_000)
    assert len(lowered.history) == 5_000
    assert len({v.digest for v in walk(lowered.result)}) == 5_001


def test_titles_show_no_variable_that_is_called_or_looks_like_a_secret() -> None:
    """They are logged, kept beside the results and travel with caches [UI-1]."""
    token = "ghp_" + "a" * 36
    lowered = build(
        "FROM scratch\nARG API_TOKEN=hunter2\n"
        f"ENV PLAIN=seen OTHER={token}\n"
        "COPY f /$API_TOKEN/$PLAIN\n"
        "RUN <<EOF\ncurl $API_TOKEN $OTHER $PLAIN\nEOF\n"
    )
    names = " ".join(v.meta.name for v in walk(lowered.result))
    assert "COPY f /****/seen" in names and "RUN <<EOF (curl **** [redacted " in names
    assert "hunter2" not in names and token not in names


def test_a_secret_is_not_shown_by_way_of_another_variable_either() -> None:
    lowered = build(
        "FROM scratch\nARG API_TOKEN=hunter2secret\nENV OTHER=$API_TOKEN/bin\nCOPY f $OTHER\n"
    )
    meta = lowered.result.meta
    assert meta.name.endswith("COPY f ****/bin")
    assert meta.secrets == ("hunter2secret",)
    assert "hunter2secret" not in repr(meta)
