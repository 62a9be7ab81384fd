"""Small nouns of the model, by tables of values and their boundaries."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pybuild.model import jsontext, lightjson
from pybuild.model.contents import EMPTY_TREE, MissingSource
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UsageError
from pybuild.model.files import as_git_has_it, body_state
from pybuild.model.filtertext import filter_values, refuse_unknown
from pybuild.model.reference import is_pinned, is_reference, parse_reference
from pybuild.model.snapshot import LocalTree, Record, Snapshot, stacked
from pybuild.model.tarplaces import NoPlace, extract_into

# --- filters and references ---------------------------------------------------------------------------


def test_filters_by_name() -> None:
    assert filter_values(["a=1", "b=", "a=2=3"]) == {"a": ["1", "2=3"], "b": [""]}
    assert filter_values(["a=1"], {"a"}) == {"a": ["1"]}
    assert filter_values([], set()) == {}
    with pytest.raises(UsageError) as caught:
        filter_values(["a"])
    assert caught.value.message == (
        'invalid argument "a" for "-f, --filter" flag: invalid filter \'a\''
    )
    with pytest.raises(UsageError) as caught:
        filter_values(["c=1"], ["b", "a"])
    assert (caught.value.message, caught.value.hints) == ("invalid filter 'c'", ("known: a, b",))
    refuse_unknown(["a"], {"a", "b"})
    with pytest.raises(UsageError, match="^invalid filter 'x'$"):
        refuse_unknown(["a", "x", "y"], {"a"})


def test_names_of_images() -> None:
    assert [is_reference(text) for text in ("a", "a/b:c", "A", "", "a:-")] == [
        *(True, True, False, False, False),
    ]
    assert [is_pinned(text) for text in ("a", "h:1/a", "h:1/a:2", "a@sha256:1")] == [
        *(False, False, True, True),
    ]
    assert str(parse_reference("a")) == "docker.io/library/a:latest"
    with pytest.raises(UsageError):
        parse_reference("A")


# --- digests, descriptors, snapshots ------------------------------------------------------------------


def test_parts_of_a_digest() -> None:
    digest = Digest.from_hex("0123456789abcdef" * 4)
    assert (digest.algorithm, digest.short) == ("sha256", "0123456789ab")
    assert digest.hex == "0123456789abcdef" * 4
    assert Digest.parse("sha512:" + "a" * 128).algorithm == "sha512"
    for wrong in ("", "sha256:", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 32):
        with pytest.raises(ValueError, match="^invalid digest "):
            Digest.parse(wrong)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mediaType": 1}, "descriptor lacks mediaType or digest"),
        ({"digest": None}, "descriptor lacks mediaType or digest"),
        ({"size": True}, "descriptor {} has no valid size"),
        ({"size": -1}, "descriptor {} has no valid size"),
        ({"size": 1 << 63}, "descriptor {} has no valid size"),
        ({"size": "1"}, "descriptor {} has no valid size"),
    ],
)
def test_descriptors_that_are_none(changed: dict[str, Any], message: str) -> None:
    digest = str(Digest.of(b""))
    whole: dict[str, Any] = {"mediaType": "a/b", "digest": digest, "size": 1}
    with pytest.raises(ValueError, match=".") as caught:
        Descriptor.from_json({**whole, **changed})
    assert str(caught.value) == message.format(digest)
    for size in (0, (1 << 63) - 1):
        assert Descriptor.from_json({**whole, "size": size}).size == size


def test_a_descriptor_that_is_no_object() -> None:
    with pytest.raises(ValueError, match="^descriptor is not an object$"):
        Descriptor.from_json([])


def test_a_delta_stays_where_it_is_uppermost() -> None:
    assert stacked([]) == Snapshot()
    assert stacked([Snapshot(("a", "b")), Snapshot(("c", "a"))]) == Snapshot(("b", "c", "a"))
    assert stacked([Snapshot(("a",)), Snapshot(("a", "b"))]) == Snapshot(("a", "b"))


def test_what_nobody_says_of_trees_and_records() -> None:
    tree = LocalTree("/x")
    assert (tree.exclude, tree.git_modes, tree.held, tree.mountable) == ((), False, False, False)
    record = Record(key=Digest.of(b""), snapshot=Snapshot())
    assert (record.seconds, record.created, record.name) == (0.0, 0.0, "")


@pytest.mark.parametrize(
    ("options", "message", "peer"),
    [
        ({}, '"/a" is not there to be copied', "failed to compute cache key: failed to calculate "),
        ({"in_context": True}, '"a" is not in the context', "failed to compute cache key: "),
        ({"hidden": "*.a"}, '"/a" is excluded from the context by *.a', "failed to compute cache "),
        ({"above_pattern": True}, '"/a" is not there to be copied', "lstat /a: no such file or "),
    ],
)
def test_sources_that_are_not_there(options: dict[str, Any], message: str, peer: str) -> None:
    error = MissingSource("ref", "/a", ("hint",), **options)
    assert (error.message, error.hints, error.path) == (message, ("hint",), "/a")
    assert error.in_context is options.get("in_context", False)
    assert str(error.peer).startswith(peer)
    assert error.of_base().peer == "lstat /a: no such file or directory"
    assert MissingSource(EMPTY_TREE, "/a").peer == "lstat /a: no such file or directory"


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        (stat.S_IFREG | 0o600, stat.S_IFREG | 0o644),
        (stat.S_IFREG | 0o4700, stat.S_IFREG | 0o755),
        (stat.S_IFREG | 0o655, stat.S_IFREG | 0o644),
        (stat.S_IFDIR | 0o700, stat.S_IFDIR | 0o755),
        (stat.S_IFLNK | 0o755, stat.S_IFLNK | 0o777),
        (0o750, 0o755),
        (0o640, 0o644),
    ],
)
def test_modes_as_git_has_them(mode: int, seen: int) -> None:
    assert as_git_has_it(mode) == seen


def test_attributes_are_part_of_a_body_and_told_apart() -> None:
    import hashlib

    plain = body_state([])
    assert plain.hexdigest() == hashlib.sha256(b"\0").hexdigest()
    two = body_state([("user.a", b"bc"), ("user.é", b"")])
    assert two.digest() == hashlib.sha256(b"6:user.a2:bc7:user.\xc3\xa90:\0").digest()


# --- JSON -----------------------------------------------------------------------------------------


def test_json_of_strangers() -> None:
    assert jsontext.loads(b'{"a": ["\\u00e9"]}') == {"a": ["é"]}
    assert jsontext.loads(b'"\\ud83d\\ude00"') == "\U0001f600"
    for wrong in (b'"\\ud800"', b'"\\uDC00"', b"{", b""):
        with pytest.raises(ValueError, match="."):
            jsontext.loads(wrong)
    assert jsontext.parse('{"a": 1}') == {"a": 1}
    assert jsontext.parse(b"{") is None
    assert jsontext.parse("[" * 100_000) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (-2.5, -2.5), (True, 7.0), ("1", 7.0), (None, 7.0), (1e300, 7.0), (-1e300, 7.0)]
    + [(float("nan"), 7.0), (9.9e299, 9.9e299)],
)
def test_numbers_of_strangers(value: object, number: float) -> None:
    assert jsontext.as_number(value, 7.0) == number


def test_shapes_of_strangers() -> None:
    assert (jsontext.as_object([1]), jsontext.as_object({"a": 1})) == ({}, {"a": 1})
    assert (jsontext.as_list({"a": 1}), jsontext.as_list([1])) == ([], [1])
    assert (jsontext.is_object({}), jsontext.is_object([])) == (True, False)
    assert jsontext.as_number("x") == 0.0


def test_text_of_values() -> None:
    value = {"b": "é", "a": [1, None, True, 1.5]}
    assert lightjson.dumps(value) == '{"b": "\\u00e9", "a": [1, null, true, 1.5]}'
    assert lightjson.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")) == (
        '{"a":[1,null,true,1.5],"b":"é"}'
    )
    assert lightjson.dumps({1}, default=sorted) == "[1]"
    with pytest.raises(TypeError, match="^set is not of JSON$"):
        lightjson.dumps({1})
    assert lightjson.loads(" [1, NaN]\r\n\t")[0] == 1
    assert lightjson.loads("é".encode().join((b'"', b'"'))) == "é"
    assert lightjson.loads('"a"'.encode("utf-16")) == "a"
    for wrong in ("1 2", "", '{"a"}', "\x0b1"):
        with pytest.raises(ValueError, match="."):
            lightjson.loads(wrong)


# --- members of a tar, over what is there [CTR-86] ----------------------------------------------------


def members(*entries: tuple[str, str]) -> tarfile.TarFile:
    """Return an archive of ``(name, content)``; ``/`` behind a name is a directory, ``=`` before content a link."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mtime, info.mode = 5000, 0o640
            info.uid, info.gid = os.geteuid(), os.getegid()
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o750
            elif content.startswith("="):
                info.type, info.linkname = tarfile.LNKTYPE, content[1:]
            info.size = len(content) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(content.encode()))
    return tarfile.open(fileobj=io.BytesIO(out.getvalue()))


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_members_follow_links_and_make_their_parents(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "old").write_text("old")
    archive = members(
        *(("./", ""), ("link/a", "one"), ("new/deep/b", "two"), ("dir/", ""), ("dir/c", "3")),
        *(("old", "new"), ("linked", "=link/a")),
    )
    extract_into(archive, str(tmp_path), replaces=False)
    assert (tmp_path / "real/a").read_text() == "one"
    assert (tmp_path / "new/deep/b").read_text() == "two"
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o777 & ~_umask()
    assert (tmp_path / "old").read_text() == "new"
    made = (tmp_path / "dir").stat()
    assert (stat.S_IMODE(made.st_mode), made.st_mtime) == (0o750, 5000)
    assert (tmp_path / "linked").stat().st_ino == (tmp_path / "real/a").stat().st_ino


@pytest.mark.parametrize("replaces", [False, True])
def test_another_kind_is_replaced_on_request_alone(tmp_path: Path, replaces: bool) -> None:
    (tmp_path / "a/inner").mkdir(parents=True)
    (tmp_path / "b").write_text("")
    for archive, message in (
        (members(("a", "x")), f"cannot overwrite directory {tmp_path}/a with non-directory a"),
        (members(("b/", "")), f"cannot overwrite non-directory {tmp_path}/b with directory b"),
    ):
        if replaces:
            extract_into(archive, str(tmp_path), replaces=True)
        else:
            with pytest.raises(NoPlace) as caught:
                extract_into(archive, str(tmp_path), replaces=False)
            assert str(caught.value) == message
    assert (tmp_path / "a").is_file() is replaces
    assert (tmp_path / "b").is_dir() is replaces


def test_a_directory_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o700)
    (tmp_path / "a/kept").write_text("")
    extract_into(members(("a/", "")), str(tmp_path), replaces=True)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert (tmp_path / "a/kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, so it needs root")
@pytest.mark.root
def test_all_members_become_one_owners(tmp_path: Path) -> None:
    extract_into(members(("d/", ""), ("d/f", "x")), str(tmp_path), replaces=False, owner=(7, 8))
    for name in ("d", "d/f"):
        made = (tmp_path / name).stat()
        assert (made.st_uid, made.st_gid) == (7, 8)
