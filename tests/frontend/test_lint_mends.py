"""``pybuild lint --fix``: small edits, everything else byte for byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybuild.frontend.check import Checked, FileCheck
from pybuild.frontend.lint.mends import mend
from pybuild.frontend.lowering.interface import (
    ImageRequest,
    LowerOptions,
    NeedImages,
    ResolvedImage,
)
from pybuild.frontend.syntax.directives import parse_directives
from pybuild.frontend.syntax.parse import parse_dockerfile
from pybuild.frontend.syntax.physical import split_lines
from pybuild.model.platform import LINUX_AMD64
from tests.frontend.lowering import image, resolve

OPTIONS = LowerOptions(target_platform=LINUX_AMD64, build_platform=LINUX_AMD64)


def check(data: bytes) -> Checked:
    """Check a file; images called ``base…`` are known, with what their name says in the config."""
    one = FileCheck(data, "Dockerfile", OPTIONS)
    known: dict[ImageRequest, ResolvedImage] = {}
    while isinstance(found := one.run(known), NeedImages):
        for request in found.requests:
            name = request.reference.familiar.partition(":")[0]
            config = image(Entrypoint=["/e"]) if name == "base-entry" else image()
            is_known = name.startswith("base")
            known[request] = (
                resolve(request, config) if is_known else ResolvedImage.unknown(request)
            )
    return found


def mended(data: bytes) -> bytes:
    escape = parse_directives(split_lines(data))[0].escape
    result = mend(data, escape, check)
    assert mend(result, escape, check) == result
    return result


CASES = {
    "a stage's name": (b"FROM a AS  Base  \n", b"FROM a AS  base  \n"),
    "AS": (b"FROM a as b\nfrom a as c\nRUN x\n", b"FROM a AS b\nFROM a AS c\nRUN x\n"),
    "a keyword in mixed case, then AS": (b"From a as b\n", b"FROM a AS b\n"),
    "keywords": (
        b"FROM a\n  run x run\ncopy a b\nRUN y\n",
        b"FROM a\n  RUN x run\nCOPY a b\nRUN y\n",
    ),
    "keywords to lower case": (b"from a\nRUN x\nrun y\n", b"from a\nrun x\nrun y\n"),
    "a keyword behind a lone continuation": (b"FROM a\n\\\n\trun x\n", b"FROM a\n\\\n\tRUN x\n"),
    "blank lines": (
        b"FROM a\nRUN x \\\n\n  # keep me\n \t\n  && y\n\nRUN z\n",
        b"FROM a\nRUN x \\\n  # keep me\n  && y\n\nRUN z\n",
    ),
    "blank lines of a heredoc's instruction, not its body": (
        b"FROM a\nRUN <<EOF \\\n\ncat\n\nx\n\nEOF\n",
        b"FROM a\nRUN <<EOF \\\ncat\n\nx\n\nEOF\n",
    ),
    "a blank line at the end of the file": (b"FROM a\nRUN x \\\n\n", b"FROM a\nRUN x \\\n"),
    "an old pair": (b"FROM a\nENV k v\n", b"FROM a\nENV k=v\n"),
    "an old pair of words": (b"FROM a\nENV  k \t v w  # x \n", b'FROM a\nENV  k="v w  # x" \n'),
    "an old pair over lines": (
        b"FROM a\nLABEL k v \\\n# why\n  w\n",
        b'FROM a\nLABEL k="v \\\n# why\n  w"\n',
    ),
    "an old pair with variables": (
        b"FROM base\nENV k $PATH:x y\n",
        b'FROM base\nENV k="$PATH:x y"\n',
    ),
    "an old pair with quotes": (b"FROM a\nENV k 'a b'\n", b"FROM a\nENV k='a b'\n"),
    "an old pair that is left": (b"FROM a\nENV k a 'b'\n", b"FROM a\nENV k a 'b'\n"),
    "a maintainer": (
        b'FROM a\nMAINTAINER J "x" $Doe \\ <j@x>\n',
        b'FROM a\nLABEL org.opencontainers.image.authors="J \\"x\\" \\$Doe \\\\ <j@x>"\n',
    ),
    "a maintainer in the wrong casing": (
        b"FROM a\nmaintainer j\n",
        b'FROM a\nLABEL org.opencontainers.image.authors="j"\n',
    ),
    "a maintainer with another escape": (
        b"# escape=`\nFROM a\nMAINTAINER a\\b $c\n",
        b'# escape=`\nFROM a\nLABEL org.opencontainers.image.authors="a\\b `$c"\n',
    ),
    "a command": (b"FROM base\nCMD serve  -p 80 \n", b'FROM base\nCMD ["serve", "-p", "80"] \n'),
    "an entrypoint": (b"FROM a\nENTRYPOINT /x\n", b'FROM a\nENTRYPOINT ["/x"]\n'),
    "ports": (b"FROM a\nEXPOSE 1/TCP 8$X/udp 2/Udp\n", b"FROM a\nEXPOSE 1/tcp 8$X/udp 2/udp\n"),
    "a platform": (
        b"FROM  --platform=$TARGETPLATFORM a AS b\n",
        b"FROM a AS b\n",
    ),
    "a platform on a line of its own": (
        b"FROM \\\n  --platform=${TARGETPLATFORM} \\\n  a\n",
        b"FROM \\\n  --platform=${TARGETPLATFORM} \\\n  a\n",
    ),
    "carriage returns and marks": (
        b"\xef\xbb\xbf# c\r\nFROM a\r\nrun x \\\r\n\r\n  y\r\nRUN \xc3\xa9\r\n",
        b"\xef\xbb\xbf# c\r\nFROM a\r\nRUN x \\\r\n  y\r\nRUN \xc3\xa9\r\n",
    ),
    "what a comment wants left": (
        b"FROM a\n# check=skip=LegacyKeyValueFormat\nENV k v\nENV l w",
        b"FROM a\n# check=skip=LegacyKeyValueFormat\nENV k v\nENV l=w",
    ),
    "what stands above an error": (b"FROM a AS X\nNONE x\n", b"FROM a AS x\nNONE x\n"),
    "no trigger where it takes effect": (
        b"FROM a AS x\nONBUILD ENV k v\nFROM x\nRUN y\n",
        b"FROM a AS x\nONBUILD ENV k v\nFROM x\nRUN y\n",
    ),
}


@pytest.mark.parametrize(("before", "after"), CASES.values(), ids=CASES.keys())
def test_mend(before: bytes, after: bytes) -> None:
    assert mended(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "CMD echo $HOME",
        "CMD a && b",
        "CMD cd /x",
        "CMD X=1 y",
        "CMD ls *.c",
        "CMD ~/x",
        "CMD exec x",
        "CMD x 'y z'",
        "CMD x \\\n y",
        'ENTRYPOINT ["/x"]\nCMD serve -p 80',
        'CMD ["a"]\nENTRYPOINT serve',
        "CMD a\nENTRYPOINT b",
        'ENTRYPOINT serve\nFROM x\nCMD ["more"]',
    ],
)
def test_commands_that_need_their_shell_keep_it(text: str) -> None:
    data = f"FROM base AS x\n{text}\n".encode()
    assert mended(data) == data


@pytest.mark.parametrize("base", ["base-entry", "unknown"])
def test_cmd_stays_a_shells_where_an_entrypoint_may_take_its_words(base: str) -> None:
    data = f"FROM {base}\nCMD serve\n".encode()
    assert mended(data) == data


WORDS = st.text(alphabet="aB \t'\"\\$={}#\u00e9", max_size=12)


@given(
    key=st.sampled_from(["k", "K_1", "$x"]), value=WORDS, keyword=st.sampled_from(["ENV", "LABEL"])
)
@pytest.mark.slow
def test_a_mended_pair_means_the_same(key: str, value: str, keyword: str) -> None:
    before = f"FROM scratch\nARG x=1\n{keyword} {key} {value}\nRUN y\n".encode()
    first = check(before)
    if first.error is not None:
        return
    after = mended(before)
    second = check(after)
    assert second.error is None
    assert [s.image.run.get("Labels") for s in second.states] == [
        s.image.run.get("Labels") for s in first.states
    ]
    assert [s.image.environment for s in second.states] == [
        s.image.environment for s in first.states
    ]


@given(author=WORDS.filter(str.strip))
@pytest.mark.slow
def test_a_label_says_what_the_maintainer_said(author: str) -> None:
    before = f"FROM scratch\nMAINTAINER {author}\nRUN y\n".encode()
    first, after = check(before), mended(before)
    (state,) = check(after).states
    if "MAINTAINER" not in after.decode():
        label = state.image.run["Labels"]["org.opencontainers.image.authors"]
        assert label == first.states[0].image.top["author"]


LINES = st.lists(
    st.sampled_from(
        [
            "FROM a AS B",
            "from base as c",
            "run x \\",
            "",
            "ENV k v w",
            "EXPOSE 1/TCP",
            "MAINTAINER m",
        ]
        + ["CMD x y", "# c", "COPY <<E /", "E", "Label a b", "FROM --platform=$TARGETPLATFORM s"]
    ),
    max_size=9,
)


@pytest.mark.slow
@given(lines=LINES, end=st.sampled_from(["\n", "\r\n"]))
def test_any_file_stays_what_it_is_apart_from_its_faults(lines: list[str], end: str) -> None:
    data = ("FROM scratch" + end + end.join(lines)).encode()
    first = check(data)
    after = mended(data)
    second = check(after)
    assert (second.error is None) == (first.error is None)
    assert len(second.findings) <= len(first.findings)
    if first.error is None:
        old, new = parse_dockerfile(data), parse_dockerfile(after)
        assert [len(stage.body) for stage in new.stages] == [len(s.body) for s in old.stages]
