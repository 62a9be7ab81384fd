"""Pairs, contexts, secrets, caches and agents as they are written on a command line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pybuild.arguments.values import parse_pairs
from pybuild.builds.requestvalues import parse_allowed, parse_contexts, parse_secret
from pybuild.executor.sources.sshoptions import parse_agents
from pybuild.model.errors import UsageError
from pybuild.remotecache.cacheurl import parse_cache
from pybuild.remotecache.places.s3options import S3Place


def test_pairs_take_what_they_lack_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SET", "here")
    monkeypatch.delenv("UNSET", raising=False)
    items = ["A=1", "B=", "C=x=y", "SET", "UNSET", "A=2"]
    both = {"A": "2", "B": "", "C": "x=y"}
    assert parse_pairs(items, "build-arg", from_environment=True) == {**both, "SET": "here"}
    assert parse_pairs(items, "label", from_environment=False) == {**both, "SET": "", "UNSET": ""}
    for item in ("", "=v"):
        with pytest.raises(UsageError) as caught:
            parse_pairs([item], "label", from_environment=True)
        assert caught.value.message == f'invalid label "{item}": expected NAME=value'


def test_contexts_are_named_in_lower_case() -> None:
    assert parse_contexts(["One=./a", "two=docker-image://x=y"]) == {
        "one": "./a",
        "two": "docker-image://x=y",
    }
    for item in ("a", "a=", "=b", ""):
        with pytest.raises(UsageError) as caught:
            parse_contexts([item])
        assert caught.value.message == f'invalid build context "{item}": expected name=value'
    for name in ("context", "Dockerfile"):
        with pytest.raises(UsageError, match=f'the name "{name}" is reserved'):
            parse_contexts([f"{name}=x"])


@pytest.mark.parametrize("key", ["src", "source"])
def test_a_secret_is_a_file(tmp_path: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "f").write_bytes(b"\xff\n")
    made = parse_secret(f"id=x,{key}={tmp_path}/f")
    assert (made.id, made.read()) == ("x", b"\xff\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_secret(f"type=file,id=x,{key}=~/f").read() == b"\xff\n"


def test_a_secret_without_a_place_is_the_file_or_the_variable_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOKEN", raising=False)
    (tmp_path / "TOKEN").write_text("of the file")
    assert parse_secret("id=TOKEN").read() == b"of the file"
    monkeypatch.setenv("TOKEN", "of the variable")
    assert parse_secret("id=TOKEN").read() == b"of the variable"
    assert parse_secret("id=TOKEN,type=file").read() == b"of the file"
    (tmp_path / "other").write_text("other")
    assert parse_secret("id=TOKEN,src=other").read() == b"other"


def test_a_secret_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARIABLE", "v")
    monkeypatch.setenv("OTHER", "o")
    monkeypatch.delenv("UNSET", raising=False)
    for text in ("id=x,env=VARIABLE", "id=x,type=env,src=VARIABLE"):
        assert parse_secret(text).read() == b"v"
    assert parse_secret("id=x,type=env,env=VARIABLE,src=OTHER").read() == b"v"
    with pytest.raises(UsageError) as caught:
        parse_secret("id=x,env=UNSET")
    assert caught.value.message == 'secret "x": environment variable UNSET is not set'


def test_a_secret_whose_value_counts_is_read_once(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"one")
    made = parse_secret(f"id=x,src={file},key=true")
    file.write_bytes(b"two")
    assert made.in_key and made.read() == b"one"
    assert not parse_secret(f"id=x,src={file},key=false").in_key
    with pytest.raises(UsageError, match="expected true or false"):
        parse_secret(f"id=x,src={file},key=yes")


@pytest.mark.parametrize("text", ["src=x", "id=", "id=x,mode=1", "id=x,type=dir,src=y", "x"])
def test_secrets_that_say_something_else(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_secret(text)
    assert (
        caught.value.message
        == f'invalid secret "{text}": expected id=NAME[,src=PATH|,env=VAR][,key=true]'
    )


def test_a_secret_is_at_most_500_kib(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x" * 512_000)
    made = parse_secret(f"id=x,src={file}")
    assert len(made.read()) == 512_000
    file.write_bytes(b"x" * 600_000)  # it grew since: what reads it sees that
    assert len(made.read()) == 512_001
    file.write_bytes(b"x" * 512_001)
    with pytest.raises(UsageError) as caught:
        parse_secret(f"id=x,src={file}")
    assert caught.value.message == f'secret "x": {file}: larger than 500 KiB'


def test_entitlements_that_there_are_stand_in_the_hint() -> None:
    with pytest.raises(UsageError) as caught:
        parse_allowed(["network.host", "everything"])
    assert caught.value.message.startswith('unknown entitlement "everything"')
    assert caught.value.hints == (
        "there are buildx.local.delete, network.host, security.insecure and device[=NAME]",
    )
    assert parse_allowed([]) == frozenset()


@pytest.mark.parametrize("text", ["", "type=local,dest=x", "ref=a/b", "http://h/x", "https://h/x"])
def test_what_is_no_place_of_a_cache(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_cache(text)
    assert caught.value.message == (
        f'invalid --cache "{text}": expected a reference, s3://BUCKET/PATH or a ./directory'
    )
    hints = ("--cache-to and --cache-from take type=…",) if text else ()
    assert caught.value.hints == hints


@pytest.mark.parametrize("text", [".", "..", "./c", "../c", "/c", "~/c", "file://c", "file:///c"])
def test_a_cache_in_a_directory(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    to, (source,) = parse_cache(text, ("a", "b"))
    place = os.path.abspath(text.removeprefix("file://").replace("~", "/home/me"))
    assert (to.type, to.dest, source.type, source.src) == ("local", place, "local", place)
    assert (to.everything, to.ignore_error, source.may_be_empty) == (True, True, True)
    assert (to.meant, source.meant) == ("", "")


@pytest.mark.parametrize(
    ("text", "refs"),
    [
        ("r.example/app", ["r.example/app:new", "r.example/app:old"]),
        ("registry://r.example/app", ["r.example/app:new", "r.example/app:old"]),
        ("host:5000/app", ["host:5000/app:new", "host:5000/app:old"]),
        ("r.example/app:c-{branch}", ["r.example/app:c-new", "r.example/app:c-old"]),
        ("r.example/{branch}:1", ["r.example/new:1", "r.example/old:1"]),
        ("r.example/app:1", ["r.example/app:1"]),
    ],
)
def test_a_cache_in_a_registry_has_a_tag_for_each_branch(text: str, refs: list[str]) -> None:
    to, sources = parse_cache(text, ("new", "old"))
    assert (to.type, str(to.ref), to.everything, to.ignore_error) == (
        "registry", refs[0], True, True,
    )  # fmt: skip
    assert [str(one.ref) for one in sources] == refs
    assert all(one.may_be_empty for one in sources)


def test_a_directorys_name_alone_is_a_reference_and_a_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    for text, meant in (("cache", "./cache"), ("other", "")):
        to, (source,) = parse_cache(text, ("new",))
        assert (to.type, to.meant, source.meant) == ("registry", meant, meant)


def test_a_cache_in_a_bucket_has_a_name_for_each_branch() -> None:
    to, sources = parse_cache("s3://bucket/p?touch_refresh=1h&region=r", ("new", "old"))
    assert isinstance(to.service, S3Place)
    assert (to.type, to.service.bucket, to.service.prefix, to.service.names) == (
        "s3",
        "bucket",
        "p/",
        ("new",),
    )
    assert to.service.touch_s == 3600.0
    places = [one.service for one in sources]
    assert [place.names for place in places if isinstance(place, S3Place)] == [("new",), ("old",)]
    assert all(one.may_be_empty for one in sources)
    assert "touch_refresh" not in sources[0].attrs  # which is for writers
    to, sources = parse_cache("s3://bucket/p?name=main", ("new", "old"))
    assert [str(one) for one in sources] == ["s3://bucket/p/manifests/main"]


def test_agents_are_looked_for_in_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert parse_agents([]) == ()
    with pytest.raises(UsageError, match=re.escape('ssh "a": invalid empty ssh agent')) as caught:
        parse_agents(["a"])
    assert caught.value.hints == ("start an agent, or name a key: --ssh a=PATH",)
