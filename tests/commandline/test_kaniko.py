"""Kaniko's flags, as one translation of words."""

from __future__ import annotations

import pytest

from pybuild.commandline import find
from pybuild.commandline.kaniko import build_words, digest_file
from pybuild.commandline.parser import BadOption, parse

PUSH = "--output=type=registry"


@pytest.mark.parametrize(
    ("words", "ours"),
    [
        ("--context=dir:///w -d r/a:1", ["--tag=r/a:1", PUSH, "--", "/w"]),
        ("--context /w --no-push", ["--output=type=cacheonly", "--", "/w"]),
        ("--no-push --tar-path=i.tar -d a", ["--tag=a", "--output=type=docker,dest=i.tar", "--", "/workspace"]),
        ("-c git://h/o/r.git#refs/heads/main --no-push", ["--output=type=cacheonly", "--", "https://h/o/r.git#main"]),
        ("-c git://h/r#refs/tags/v1 --context-sub-path=x --no-push", ["--output=type=cacheonly", "--", "https://h/r#v1:x"]),
        ("-c tar://stdin --no-push=true", ["--output=type=cacheonly", "--", "-"]),
        ("--cache -d h:5000/a/b:1", ["--tag=h:5000/a/b:1", PUSH, "--cache=h:5000/a/b/cache", "--", "/workspace"]),
        ("--cache=true --cache-repo=r/c -d a", ["--tag=a", PUSH, "--cache=r/c", "--", "/workspace"]),
        ("--insecure -d a --compression=zstd", ["--tag=a", PUSH + ",registry.insecure=true,compression=zstd", "--", "/workspace"]),
        (
            "-f D --build-arg A=1 --target t --label k=v --reproducible --snapshot-mode=redo --no-push",
            ["--build-arg=A=1", "--label=k=v", "--target=t", "--file=D", "--output=type=cacheonly", "--build-arg=SOURCE_DATE_EPOCH=0", "--", "/workspace"],
        ),
    ],
)  # fmt: skip
def test_words_of_the_executor_are_words_of_a_build(words: str, ours: list[str]) -> None:
    made = build_words(words.split())
    assert made == ["build", *ours]
    build = find("build")
    assert build is not None
    parse(made[1:], build.options)  # each of them is one that there is


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--registry-mirror=m", "is not done by pybuild"),
        ("--context=s3://b/k", "contexts of kind s3:// are not fetched"),
        ("--nonsense=1", "unknown flag of Kaniko: --nonsense"),
        ("context", "takes no arguments"),
        ("--destination", "flag needs an argument"),
    ],
)
def test_what_is_not_done_is_refused(words: str, said: str) -> None:
    with pytest.raises(BadOption, match=said):
        build_words(words.split())


def test_a_digest_may_be_written() -> None:
    assert digest_file(["--digest-file=/d", "--no-push"]) == "/d"
    assert "--metadata-file=/d.json" in build_words(["--digest-file=/d", "--no-push"])
