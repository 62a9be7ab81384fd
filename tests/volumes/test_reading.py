"""Mounts as people write them [CTR-100…103]."""

from __future__ import annotations

import json
import os

import pytest

from pybuild.model.errors import UsageError, UserError
from pybuild.volumes.mountpoint import MountKind, MountOrigin, MountPoint, settled
from pybuild.volumes.reading import read_bind, read_mount, read_tmpfs, read_volumes_from
from pybuild.volumes.volume import check_name, check_options


@pytest.mark.parametrize(
    ("text", "kind", "source", "target", "readonly", "mode"),
    [
        ("/a:/b", "bind", "/a", "/b", False, ""),
        ("/a/../c:/b/./d/:ro", "bind", "/c", "/b/d", True, "ro"),
        ("./x:/b", "bind", f"{os.getcwd()}/x", "/b", False, ""),
        ("name:/b", "volume", "name", "/b", False, "z"),
        ("name:/b:ro,Z", "volume", "name", "/b", True, "ro,Z"),
        ("/only", "volume", "", "/only", False, ""),
    ],
)
def test_binds(text: str, kind: str, source: str, target: str, readonly: bool, mode: str) -> None:
    mount = read_bind(text)
    assert (mount.kind, mount.source, mount.target) == (kind, source, target)
    assert (mount.readonly, mount.mode) == (readonly, mode)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid volume specification"),
        ("a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:rw,ro", "invalid mode: rw,ro"),
        ("/a:/b:wrong", "invalid mode: wrong"),
        ("/a:/b:nocopy", "nocopy is for volumes"),
        ("/a:/b:rshared", "propagation rshared is not done"),
        ("a/b:/c", 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ("/a:/b:ro:z", "invalid volume specification"),
    ],
)
def test_wrong_binds(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_bind(text)


def test_mounts_by_words() -> None:
    mount = read_mount('type=volume,src=vol,dst=/v,ro,volume-nocopy,"volume-label=a=b,c"')
    assert (mount.source, mount.readonly, mount.nocopy) == ("vol", True, True)
    assert (mount.labels, mount.origin) == ({"a": "b,c"}, MountOrigin.MOUNT)
    assert read_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0700").permissions == 0o700
    assert read_tmpfs("/t:size=2k,noexec").size_bytes == 2048
    # As docker has it, nothing in one is executed unless that is said.
    for text, noexec in (("/t", True), ("/t:exec", False), ("/t:exec,noexec", True)):
        assert read_tmpfs(text).step_mount().noexec is noexec
    assert read_mount("type=tmpfs,target=/t").step_mount().noexec


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=bind,src=/,dst=/x,volume-nocopy", "cannot mix 'volume-nocopy' with mount type 'bind'"),
        ("type=bind,src=x,dst=/x", "mount path must be absolute"),
        ("type=npipe,dst=/x", 'mount type "npipe" is not done by pybuild'),
        ("type=tmpfs,src=/a,dst=/x", "field Source must not be specified"),
        ("type=volume,src=v", "target is required"),
        ("sorce=v,dst=/x", "unexpected key 'sorce'"),
        ("src=vol,dst=/x,volume-subpath=../y", "subpath must be a relative path within the volume"),
        ("src,dst=/x", "must be a key=value pair"),
        ("type=bind,src=/,dst=/x,bind-propagation=slave", "propagation slave is not done"),
    ],
)  # fmt: skip
def test_wrong_mounts(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_mount(text)


def test_what_was_said_wins_over_others_and_the_image() -> None:
    """CTR-100."""
    given = [read_bind("mine:/a/b"), read_bind("/host:/a")]
    others = [read_bind("theirs:/a"), read_bind("theirs:/c")]
    mounts = settled(given, others, ["/a/b", "/d/", "/"])
    assert [(mount.target, mount.source) for mount in mounts] == [
        ("/a/b", "mine"), ("/a", "/host"), ("/c", "theirs"), ("/d", ""),
    ]  # fmt: skip
    assert mounts[-1].origin == MountOrigin.IMAGE
    with pytest.raises(UserError, match="Duplicate mount point: /a"):
        settled([*given, read_tmpfs("/a/")], (), ())


def test_a_mount_is_as_before_in_json() -> None:
    for mount in (read_bind("vol:/a:ro"), read_tmpfs("/t:mode=1777"), read_mount("dst=/x")):
        assert MountPoint.of_json(json.loads(json.dumps(mount._asdict()))) == mount


def test_mounts_are_shown_as_docker_shows_them() -> None:
    """CTR-72."""
    assert read_bind("/a:/b:ro").shown("") == {
        "Type": "bind", "Source": "/a", "Destination": "/b", "Mode": "ro", "RW": False,
        "Propagation": "rprivate",
    }  # fmt: skip
    assert list(read_bind("vol:/b").shown("/x/_data").items()) == [
        ("Type", "volume"), ("Name", "vol"), ("Source", "/x/_data"), ("Destination", "/b"),
        ("Driver", "local"), ("Mode", "z"), ("RW", True), ("Propagation", ""),
    ]  # fmt: skip
    assert read_bind("/v").kind == MountKind.VOLUME


def test_containers_to_take_mounts_of() -> None:
    assert read_volumes_from("one") == ("one", None)
    assert read_volumes_from("one:ro") == ("one", True)
    with pytest.raises(UsageError, match="invalid mode: x"):
        read_volumes_from("one:x")


def test_names_and_options_of_volumes() -> None:
    with pytest.raises(UserError, match="create a: volume name is too short"):
        check_name("a")
    for name in ("-ab", "a b", "a/b", ".."):
        with pytest.raises(UserError, match="includes invalid characters"):
            check_name(name)
    check_options({"type": "none", "o": "bind,ro", "device": "/x"})
    for options, message in (
        ({"type": "nfs"}, 'missing required option: "device"'),
        ({"kind": "nfs"}, 'invalid option: "kind"'),
        ({"size": "1m"}, "quota size requested but no quota support"),
        ({"type": "nfs", "device": ":/x", "o": "addr=h"}, 'a volume of type "nfs" is not done'),
        ({"o": "bind", "device": "x"}, "must be an absolute path"),
        ({"o": "bind,uid=1", "device": "/x"}, 'option "uid=1" of a bound volume is not done'),
    ):
        with pytest.raises(UserError, match=message):
            check_options(options)


def test_a_volume_by_its_path_alone_is_the_one_of_another_container() -> None:
    """CTR-100: --volumes-from goes before -v /path, the last of several before the others."""
    others = [
        MountPoint(kind=MountKind.VOLUME, target="/v", source=name, origin=MountOrigin.VOLUMES_FROM)
        for name in ("first", "second")
    ]
    (mount,) = settled([read_bind("/v")], others, ["/v"])
    assert mount.source == "second"
    (mount,) = settled([read_bind("own:/v")], others, [])
    assert mount.source == "own"


def test_a_mount_by_words_has_dockers_mode() -> None:
    assert read_mount("src=vol,dst=/m").mode == "z"
    assert read_mount("type=bind,src=/,dst=/m").mode == ""
    assert read_mount("type=tmpfs,dst=/m").mode == ""
