"""Where inputs come from: the project's own cases, and changes to them that know the language."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tests.conformance.cases import load_cases

_GOLDEN = Path(__file__).parent.parent / "golden"

# The space behind a name is part of the token, so that they can stand in a row.
_KEYWORDS = (
    *("FROM a AS s0\n", "FROM s0 AS s1\n", "FROM ", "ARG ", "ENV ", "LABEL ", "MAINTAINER "),
    *("RUN ", "CMD ", "ENTRYPOINT ", "COPY ", "ADD ", "WORKDIR ", "USER ", "VOLUME ", "EXPOSE "),
    *("STOPSIGNAL ", "SHELL ", "HEALTHCHECK ", "ONBUILD ", "run ", "Copy ", " AS ", " as "),
)
_FLAGS = (
    *("--from=s0 ", "--from=0 ", "--from=$X ", "--from=1 ", "--chown=a:b ", "--chown=1 "),
    *("--chmod=755 ", "--chmod=u+x,g=u ", "--chmod=9 ", "--link ", "--link=no ", "--parents "),
    *("--exclude=*.md ", "--exclude=! ", "--checksum=sha256:0 ", "--unpack=false ", "-- "),
    *("--keep-git-dir ", "--network=none ", "--security=insecure ", "--device=a/b=c,required "),
    *("--platform=linux/arm64 ", "--platform=$TARGETPLATFORM ", "--interval=1s ", "--retries=-1 "),
    *("--mount=type=cache,target=/c,sharing=locked,id=$X ", "--mount=type=bind,from=s0,src=a "),
    *("--mount=type=secret,id=s,env=E,mode=0444 ", "--mount=type=ssh,required ", "--mount=, "),
    *("--mount=type=tmpfs,size=1.5m,target=/t ", '--mount="target=/a,b",rw ', "--mount=from=s1 "),
    *("--mount=uid=4294967296 ", "--moumt=x ", "--timeout=999999999999999h ", "--start-period=.s "),
)
_MARKS = (
    *("\n", "\r\n", "\\\n", "`\n", "\\ \n", "\\\\\n", "\n\n", "\\\n\n", "\\\n# c\n", "\t", " "),
    *("<<E ", "<<-E ", "<<'E' ", '<<"E"F ', "3<<E ", "<<<E ", "\nE\n", "\n\tE\n", "E", "<<\\E "),
    *('["a", "b"]', "[]", '["a", 1]', "['a']", '["\\ud800"]', "[1e999]", "[", "]", "{", "}"),
    *('"', "'", "\\", "`", "$", "=", ",", ":", ";", "/", "*", "?", "#", "@", "!", "..", "-", "+"),
    *("$X", "${X}", "${X:-", "${X-", "${X:+", "${X?", "${X:?m}", "${X#", "${X##*", "${X%", "${X%%"),
    *(
        "${X/",
        "${X//a/b}",
        "${X//\\//",
        "${X^^}",
        "${:}",
        "${",
        "$$",
        "$1",
        "${X/a*b?/",
        "\\}",
        "\\$",
    ),
    *("# syntax=docker/dockerfile:1\n", "# escape=`\n", "# check=skip=all;error=true\n", "#!x\n"),
    *(
        "# check=skip=UndefinedVar\n",
        "# check=experimental=all\n",
        "#\n",
        "# X x\n",
        "// syntax=y\n",
    ),
)
_WORDS = (
    *("scratch", "alpine:3", "a@sha256:" + "0" * 64, "localhost:5000/a", "A", "context", "s0", "9"),
    *(
        "a",
        "b/",
        "/",
        ".",
        "../x",
        "*.md",
        "**/a",
        "[a-z]",
        "[^a]",
        "\\[",
        "!a",
        "X=1",
        "X=$X$X",
        "V",
    ),
    *(
        "80",
        "80/TCP",
        "1-3/udp",
        "8000:80",
        "127.0.0.1::80/sctp",
        "65536",
        "CMD ",
        "NONE",
        "SIGTERM",
    ),
    *("https://a/b.tar", "https://h/r.git#v:s", "git@h:r?tag=1&subdir=a", "http://[", "ssh://h/r"),
    *("AWS_SECRET_KEY=1", "PATH=", "TARGETARCH", "HTTP_PROXY", "SOURCE_DATE_EPOCH=1", "1.5s", "0"),
    *("é", "ß", "İ", "\u2028", "\x85", "\xa0", "\x1c", "٣", "\ufeff", "\U0001f600", "\0", "\x7f"),
)
_JSON = (
    *(
        '{"config":',
        '{"OnBuild":["RUN x"]}',
        '"Env":["A"]',
        '"Env":["=x","A=b"]',
        "null",
        "[]",
        "{}",
    ),
    *('"User":5', '"WorkingDir":"../.."', '"history":[{"empty_layer":true}]', '"os":"windows"'),
    *('"Labels":{"a":1}', '"ExposedPorts":{"x":{}}', '"Healthcheck":{"Test":[]}', "1e400", "true"),
    *('"\\ud800"', '"Shell":[]', '"Cmd":[""]', '"architecture":"arm"', '"variant":"v9"', ",", "}"),
    *('"OnBuild":["FROM x"]', '"OnBuild":["COPY --from=b a b"]', '"OnBuild":["ENV A=$A"]', "-0"),
)
_RAW = (
    b"\x00",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\xf0\x9f",
    b"\xef\xbb\xbf",
    b"\x80",
    b"\x1b[2J",
)

_BYTES = {
    name: tuple(token.encode("utf-8", "surrogatepass") for group in groups for token in group)
    for name, groups in {
        "dockerfile": (_KEYWORDS, _FLAGS, _MARKS, _WORDS, _KEYWORDS),
        "base_image": (_JSON,),
        "ignore_file": (
            _WORDS,
            ("*", "**", "/", "\n", "!", "\\", "[", "]", "?", "**/", "#", "^", "-"),
        ),
        "words": (_MARKS, _WORDS),
        "options": (_FLAGS, _MARKS, _WORDS, _KEYWORDS),
    }.items()
}
MAX_SIZE = 4096


def seeds() -> dict[str, list[bytes]]:
    """Return what each target starts with."""
    files = [path.read_bytes() for path in sorted(_GOLDEN.glob("*/Dockerfile"))]
    files += [case.build.dockerfile.encode() for case in load_cases()]
    return {
        "dockerfile": [data for data in files if len(data) <= MAX_SIZE],
        "base_image": [
            b'{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"OnBuild":["RUN x"]}}',
            b'{"history":[{"created_by":"x"}],"rootfs":{"type":"layers","diff_ids":["sha256:0"]}}',
        ],
        "ignore_file": [b"# c\n*\n!src\n**/*.md\n/a/../b/\n[a-z]?\\*\n", b"a**b**c/**\n**.x\n"],
        "words": [b"a${x:-\"$y\"}'$z'\\$", b"${X//a*/b}${X%%\\*}", b"${a:?x} \"${b+'c'}\" $1 x"],
        "options": [b"type=cache,target=/x", b"https://h/r.git?branch=a#b:c", b"skip=A;error=true"],
    }


def changed(kind: str, data: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Return *data* with a few changes; *others* are there to be mixed with."""
    tokens = _BYTES[kind]
    for _ in range(1 + min(int(rng.expovariate(0.6)), 7)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + int(rng.expovariate(0.12)))
        change = rng.randrange(16)
        if change < 6:
            data = data[:at] + rng.choice(tokens) + data[at:]
        elif change < 8:
            data = data[:at] + rng.choice(tokens) + data[to:]
        elif change < 10:
            data = data[:at] + data[to:]
        elif change == 10:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            data = data[:at] + other[start : start + 80] + data[at:]
        elif change == 11:
            lines = data.splitlines(keepends=True)
            rng.shuffle(lines)
            data = b"".join(lines)
        elif change == 12:
            lines = data.splitlines(keepends=True)
            chosen = rng.choice(lines) if lines else b"\n"
            data = data[:at] + chosen + data[at:]
        elif change == 13:
            data = data[:at] + rng.choice(_RAW) + data[at:]
        elif change == 14:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        else:
            data = data[:at] + data[at:to] * rng.choice((2, 3, 17)) + data[to:]
    if rng.randrange(2000) == 0:  # something long, rarely, as that is slow
        at = rng.randrange(len(data) + 1)
        return data[:at] + rng.choice(tokens) * rng.choice((200, 2000)) + data[at:]
    return data[:MAX_SIZE]
