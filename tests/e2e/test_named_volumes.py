"""Volumes of containers as commands see them: kept, filled at first use, listed, removed [CTR-100]."""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild, leftovers, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

IMAGE = """\
FROM base
RUN mkdir -p /data/sub && echo one > /data/f && ln /data/f /data/sub/again && chown 33:34 /data \\
 && chmod 2751 /data && chown 5:6 /data/f && chmod 4711 /data/f && mkdir /own && echo own > /own/f
VOLUME /own
"""


@pytest.fixture
def machine(pybuild: Pybuild, base: str, tmp_path: Path) -> Generator[Pybuild]:
    """A store with the image *data*, which has files in /data, and a volume /own."""
    assert base
    pybuild("build", "-q", "-t", "data", write(tmp_path / "context", Dockerfile=IMAGE))
    yield pybuild
    ids = pybuild("ps", "-aq", code=None).out.split()
    if ids:
        pybuild("rm", "-fv", *ids)
    wait_until(lambda: not leftovers(pybuild.store))


def ends(machine: Pybuild, script: str, *options: str) -> str:
    """Run a container to its end, remove it, and return what it wrote."""
    id = machine("run", "-d", *options, "data", "sh", "-c", script).out.strip()
    machine("wait", id)
    log = machine("logs", id)
    machine("rm", id)
    return log.out + log.err


def names(machine: Pybuild, *options: str) -> list[str]:
    return machine("volume", "ls", "-q", *options).out.split()


def test_a_named_volume_survives_its_containers(machine: Pybuild) -> None:
    """Made at first use, in use as long as a container has it, and then removed."""
    assert ends(machine, "echo kept > /v/new; cat /v/new", "-v", "mine:/v") == "kept\n"
    assert names(machine) == [ours for ours in names(machine) if len(ours) == 64] + ["mine"]
    assert ends(machine, "cat /v/new; echo x > /v/new", "-v", "mine:/v:ro").startswith("kept\n")
    assert ends(machine, "cat /v/new", "--mount", "src=mine,dst=/v") == "kept\n"
    assert machine("run", "--rm", "-v", "mine:/v", "data", "cat", "/v/new").out == "kept\n"
    id = machine("run", "-d", "-v", "mine:/v", "data", "true").out.strip()
    machine("wait", id)
    error = machine("volume", "rm", "mine", code=1).err
    assert f"remove mine: volume is in use - [{id}]" in error
    machine("rm", "-v", id)
    assert "mine" in names(machine)  # it has a name of its own
    assert machine("volume", "rm", "mine").out == "mine\n"
    assert "get mine: no such volume" in machine("volume", "rm", "mine", code=1).err
    assert machine("volume", "rm", "-f", "mine").out == "mine\n"


def test_a_new_volume_gets_what_the_image_has(machine: Pybuild) -> None:
    """With owners, modes, links and the look of the directory; once, and not with nocopy."""
    look = "cd /v; stat -c '%n %u:%g %a %h' . f sub/again; cat sub/again"
    expected = ". 33:34 2751 3\nf 5:6 4711 2\nsub/again 5:6 4711 2\none\n"
    assert ends(machine, look.replace("/v", "/data"), "-v", "mine:/data") == expected
    assert ends(machine, look, "-v", "mine:/v") == expected
    assert ends(machine, "rm /data/f; ls /data", "-v", "mine:/data") == "sub\n"
    assert ends(machine, "ls /data", "-v", "mine:/data") == "sub\n"
    assert ends(machine, "ls /data; touch /data/x", "-v", "plain:/data:nocopy") == ""
    assert ends(machine, "ls /data", "-v", "plain:/data") == "x\n"
    refused = machine("run", "-d", "-v", "other:/data/f", "data", "true", code=125).err
    assert "cannot mount volume over existing file, file exists /data/f" in refused


def test_volumes_without_a_name_are_their_containers_own(machine: Pybuild) -> None:
    """CTR-39: of the image's VOLUME and of ``-v PATH``; gone with ``rm -v`` and prune."""
    script = "cat /own/f; echo x >> /own/f; touch /more/y"
    first = machine("run", "-d", "-v", "/more", "data", "sh", "-c", script).out.strip()
    second = machine("run", "-d", "-v", "/more", "data", "sh", "-c", script).out.strip()
    assert machine("wait", first, second).out == "0\n0\n"
    assert machine("logs", second).out == "own\n"
    assert len(names(machine)) == 4 and names(machine, "-f", "dangling=true") == []
    mounted = ends(machine, "cat /own/f; ls /more", "--volumes-from", f"{first}:ro")
    assert mounted == "own\nx\ny\n"
    rows = machine("system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}").out
    assert "Containers 2 0\nLocal Volumes 4 4\n" in rows
    machine("rm", "-v", first)
    assert len(names(machine)) == 2
    machine("rm", second)
    machine("volume", "create", "named")
    assert len(names(machine, "-f", "dangling=1")) == 3
    assert "Deleted Volumes:" in machine("volume", "prune", "-f").out
    assert names(machine) == ["named"]
    assert "named\n" in machine("volume", "prune", "-af").out


def test_one_that_is_removed_at_its_end_leaves_no_volume(machine: Pybuild) -> None:
    script = "touch /more/x; ls /more; cat /own/f"
    done = machine("run", "--rm", "-v", "/more", "data", "sh", "-c", script)
    assert (done.out, names(machine)) == ("x\nown\n", [])


def test_volumes_are_made_shown_and_filtered(machine: Pybuild, tmp_path: Path) -> None:
    assert machine("volume", "create", "--label", "a=b", "one").out == "one\n"
    (tmp_path / "there").mkdir()
    options = [
        word
        for text in ("type=none", "o=bind", f"device={tmp_path}/there")
        for word in ("-o", text)
    ]
    machine("volume", "create", *options, "bound")
    document, bound = json.loads(machine("volume", "inspect", "one", "bound").out)
    assert document["Mountpoint"] == f"{machine.store}/volumes/one/_data"
    assert os.stat(document["Mountpoint"]).st_mode & 0o777 == 0o755
    assert {key: document[key] for key in ("Driver", "Labels", "Name", "Options", "Scope")} == {
        "Driver": "local", "Labels": {"a": "b"}, "Name": "one", "Options": None, "Scope": "local",
    }  # fmt: skip
    assert bound["Options"]["o"] == "bind"
    assert names(machine, "-f", "label=a") == names(machine, "-f", "name=on") == ["one"]
    assert machine("volume", "ls").out == "DRIVER    VOLUME NAME\nlocal     bound\nlocal     one\n"
    ends(machine, "echo there > /v/f", "-v", "bound:/v")
    assert (tmp_path / "there/f").read_text() == "there\n"
    assert 'plugin "nfs" not found' in machine("volume", "create", "-d", "nfs", code=1).err
    shown = machine("volume", "inspect", "-f", "{{.Name}}", "one", "gone", code=1)
    assert (shown.out, "get gone: no such volume" in shown.err) == ("one\n", True)


def test_mounts_by_path_and_by_words(machine: Pybuild, tmp_path: Path) -> None:
    """CTR-101, CTR-103: directories are made where -v names one, and not where --mount does."""
    place = tmp_path / "made" / "here"
    assert ends(machine, "touch /v/x; ls /v", "-v", f"{place}:/v") == "x\n"
    assert (place / "x").exists()
    missing = machine(
        "run", "--mount", "type=bind,src=/no-such,dst=/v", "data", "true", code=125
    ).err
    assert "bind source path does not exist: /no-such" in missing
    script = "stat -c '%a' /t; df -k /t | tail -1 | awk '{print $2}'; touch /t/x && ls /t"
    assert ends(machine, script, "--tmpfs", "/t:size=1m,mode=700") == "700\n1024\nx\n"
    script = "printf '#!/bin/sh\necho ran' > /t/x; chmod 755 /t/x; /t/x 2>/dev/null || echo no"
    assert ends(machine, script, "--tmpfs", "/t") == "no\n"
    assert ends(machine, script, "--tmpfs", "/t:exec") == "ran\n"
    mount = "type=volume,src=sub,dst=/v,volume-subpath=a/b"
    ends(machine, "mkdir -p /v/a/b; echo deep > /v/a/b/f", "-v", "sub:/v")
    assert ends(machine, "cat /v/f", "--mount", mount) == "deep\n"
    twice = machine("run", "-v", "sub:/v", "--tmpfs", "/v", "data", "true", code=125).err
    assert "Duplicate mount point: /v" in twice


@pytest.mark.parametrize(
    ("subpath", "said"),
    [
        ("deep/out", "path concatenation escapes the base directory"),
        ("deep/to-out", "path concatenation escapes the base directory"),
        ("nothing", "cannot access path "),
        ("deep/../..", "subpath must be a relative path within the volume"),
    ],
)
def test_refuses_parts_of_volumes_that_lie_elsewhere(
    machine: Pybuild, subpath: str, said: str
) -> None:
    """CTR-103: a link of the volume leads no container into this machine's files."""
    ends(machine, "mkdir -p /v/deep; ln -s / /v/deep/out; ln -s out /v/deep/to-out", "-v", "sub:/v")
    mount = f"type=volume,src=sub,dst=/v,volume-subpath={subpath}"
    assert said in machine("run", "--rm", "--mount", mount, "data", "true", code=None).err


def test_fills_an_empty_part_of_a_volume(machine: Pybuild) -> None:
    """CTR-102: as a whole volume; what has files already, or is a file, stays as it is."""
    ends(machine, "mkdir /v/empty /v/full; touch /v/full/own; ln -s empty /v/link", "-v", "sub:/v")
    for subpath, shown in (("link", "f\nsub\n"), ("full", "own\n")):
        mount = f"type=volume,src=sub,dst=/data,volume-subpath={subpath}"
        assert ends(machine, "ls /data", "--mount", mount) == shown
    assert ends(machine, "ls /v /v/empty; stat -c %a /v", "-v", "sub:/v") == (
        "/v:\nempty\nfull\nlink\n\n/v/empty:\nf\nsub\n755\n"
    )
