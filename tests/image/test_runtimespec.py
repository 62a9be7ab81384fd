"""Bundles that OCI runtimes run [IMG-18]."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pybuild.image.runtimespec import (
    DEFAULT_PATH,
    Identity,
    resolve_identity,
    runtime_config,
    write_bundle,
)
from pybuild.model.errors import UserError
from tests.needs import needs

PASSWD = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n# c\nbad\n77:x:5:6::/h:/s\n"
GROUP = "root:x:0:\nwww:x:34:\nextra:x:50:web,root\nmore:x:40:web\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Identity(0, 0, (50,), "/root")),
        ("web", Identity(33, 34, (40, 50), "/srv")),
        ("33", Identity(33, 34, (40, 50), "/srv")),
        ("web:extra", Identity(33, 50, (), "/srv")),
        ("web:1234", Identity(33, 1234, (), "/srv")),
        ("1000", Identity(1000, 0, (), "/")),
        ("1000:1001", Identity(1000, 1001, (), "/")),
        ("77", Identity(5, 6, (), "/h")),
    ],
)
def test_users_are_found(user: str, expected: Identity) -> None:
    assert resolve_identity(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", 'unable to find user "nobody": no matching entry in passwd file'),
        ("web:none", 'unable to find group "none": no matching entry in group file'),
        ("4294967296", 'user "4294967296" has the id 4294967296, expected 0 to 2147483647'),
    ],
)
def test_unknown_users_are_named(user: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_identity(user, PASSWD, GROUP)
    assert caught.value.message == message


ROOT = Identity(0, 0, (), "/root")


def test_config_fields_become_process_fields() -> None:
    image: dict[str, Any] = {
        "os": "linux",
        "architecture": "amd64",
        "config": {
            "Env": ["A=1"],
            "Entrypoint": ["/e"],
            "Cmd": ["c"],
            "WorkingDir": "/w",
            "Labels": {"l": "v"},
            "Volumes": {"/data": {}},
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        },
    }
    made = runtime_config(image, identity=Identity(5, 6, (7,), "/h"))
    process = made["process"]
    assert process["args"] == ["/e", "c"]
    assert process["env"] == ["PATH=" + DEFAULT_PATH, "A=1", "HOME=/h"]
    assert process["cwd"] == "/w"
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7]}
    assert list(process["capabilities"]) == ["bounding"]
    assert made["mounts"][-1]["destination"] == "/data"
    assert made["annotations"] == {
        "l": "v",
        "org.opencontainers.image.architecture": "amd64",
        "org.opencontainers.image.exposedPorts": "80/tcp",
        "org.opencontainers.image.os": "linux",
        "org.opencontainers.image.stopSignal": "SIGQUIT",
    }


def test_images_without_a_command_and_for_other_systems_are_refused() -> None:
    with pytest.raises(UserError, match="neither ENTRYPOINT nor CMD"):
        runtime_config({"config": {}}, identity=ROOT)
    with pytest.raises(UserError, match="an image for windows: expected linux"):
        runtime_config({"os": "windows"}, identity=ROOT)


def test_user_database_is_not_read_through_links(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "host").mkdir()
    (tmp_path / "host/passwd").write_text("evil:x:1:1::/:/bin/sh\n")
    (tmp_path / "rootfs/etc").symlink_to(tmp_path / "host")
    with pytest.raises(UserError, match='unable to find user "evil"'):
        write_bundle(str(tmp_path), {"config": {"User": "evil", "Cmd": ["x"]}})


def little_root(root: Path) -> None:
    """Make a tree with a shell of this machine's and the libraries that it wants."""
    shell = Path(os.path.realpath("/bin/sh"))
    listed = subprocess.run(
        ["ldd", str(shell)], capture_output=True, text=True, timeout=60, check=True
    )
    needed = {Path(path) for path in re.findall(r"(/\S+) \(0x", listed.stdout)}
    for path in needed:
        (root / str(path.parent)[1:]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / str(path)[1:])
    (root / "bin").mkdir(exist_ok=True)
    shutil.copy(shell, root / "bin/sh")
    for name in ("proc", "dev", "sys", "etc", "srv"):
        (root / name).mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@needs("crun")
@pytest.mark.parametrize("rootless", [False, True])
def test_crun_runs_the_bundle(tmp_path: Path, rootless: bool) -> None:
    little_root(tmp_path / "rootfs")
    script = (
        "while read key uid rest; do case $key in Uid:) who=$uid; esac; done < /proc/$$/status; "
        'echo "$A $PWD $HOME $$ $who"; exit 3'
    )
    config = {
        "Cmd": ["/bin/sh", "-c", script],
        "Env": ["A=hello"],
        "WorkingDir": "/srv",
        "User": "" if rootless else "web",
    }
    write_bundle(str(tmp_path), {"os": "linux", "config": config}, rootless=rootless)
    name = f"pybuild-test-{os.getpid()}-{int(rootless)}"
    # crun 1.8 refuses hosts with both versions of cgroups mounted, even when it uses neither: show
    # it version 2 alone, in a mount namespace that ends with it.
    cgroups = "/sys/fs/cgroup"
    script = f'[ -e {cgroups}/cgroup.procs ] || mount -t cgroup2 cgroup2 {cgroups}; exec "$@"'
    crun = ["crun", "--cgroup-manager=disabled", "run", "--bundle", str(tmp_path), name]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *crun],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    expected = f"hello /srv {'/root 1 0' if rootless else '/srv 1 33'}\n"
    assert (done.stdout, done.stderr, done.returncode) == (expected, "", 3)
