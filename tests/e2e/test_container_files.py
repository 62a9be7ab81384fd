"""``cp``, ``diff``, ``export``, ``commit``: the file tree of a container [CTR-85…90]."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.e2e.test_containers import wait_until
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


CHANGES = (
    "mkdir -p /new/deep; echo a > /new/deep/f; chown 33:34 /new/deep/f; rm /etc/group; "
    "echo x >> /etc/passwd; echo v > /v/f; ln -s PLACE/secret /leads; ln -s PLACE /away"
)


@pytest.mark.parametrize("runs", [True, False])
def test_files_go_out_and_in(machine: Pybuild, tmp_path: Path, runs: bool) -> None:
    """Volumes are seen; links of the container lead nowhere on this machine."""
    (tmp_path / "secret").write_text("of this machine")
    script = CHANGES.replace("PLACE", str(tmp_path)) + "; touch /done" + "; sleep 1000" * runs
    machine("run", "-d", "--name", "one", "-v", "vol:/v", "base", "sh", "-c", script)
    if runs:
        wait_until(lambda: "/done" in machine("diff", "one").out)
    else:
        machine("wait", "one")
    listed = machine("diff", "one").out.splitlines()
    assert {"A /new", "A /new/deep/f", "D /etc/group", "C /etc", "C /etc/passwd"} <= set(listed)
    out = tmp_path / "out"
    machine("cp", "-a", "one:/new", out)
    assert (out / "deep/f").read_text() == "a\n"
    if os.geteuid() == 0:
        assert (out / "deep/f").stat().st_uid == 33
    machine("cp", "one:/v/f", out)
    assert (out / "f").read_text() == "v\n"
    assert (
        "Could not find the file /leads in container one"
        in machine("cp", "-L", "one:/leads", out, code=1).err
    )
    machine("cp", "one:/leads", out)
    assert os.readlink(out / "leads") == f"{tmp_path}/secret"
    machine("cp", out, "one:/v/into")
    error = machine("cp", out / "f", "one:/away/planted", code=1).err
    assert "Could not find the file /away/planted in container one" in error
    assert not (tmp_path / "planted").exists()
    done = subprocess.run(
        machine.command("cp", "one:/v", "-"),
        env=machine.environment,
        stdout=subprocess.PIPE,
        timeout=120,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert {"v/f", "v/into/deep/f", "v/into/leads"} <= set(archive.getnames())
    # The members of an archive keep their names below the path, also the first.
    machine("cp", "-", "one:/new", stdin=done.stdout)
    machine("cp", "one:/new/v/into/deep/f", tmp_path / "again")
    assert (tmp_path / "again").read_text() == "a\n"
    assert "is not a directory" in machine("cp", "-", "one:/etc/passwd", stdin=b"", code=1).err


def test_a_container_becomes_an_image_and_a_tar(machine: Pybuild, tmp_path: Path) -> None:
    """Deleted files stay so; volumes are no part of it; its config and a line of change are."""
    script = "rm /etc/group; echo kept > /kept; echo v > /v/f"
    machine("run", "-d", "--name", "one", "-e", "A=b", "-v", "/v", "base", "sh", "-c", script)
    machine("wait", "one")
    machine("export", "-o", tmp_path / "tree.tar", "one")
    with tarfile.open(tmp_path / "tree.tar") as archive:
        names = set(archive.getnames())
    assert "kept" in names and "etc/passwd" in names and not {"etc/group", "v/f"} & names
    id = machine("commit", "-m", "why", "-c", 'CMD ["cat", "/kept"]', "one", "made:1").out.strip()
    shown = machine("inspect", "-f", "{{.Id}} {{.Config.Env}} {{.Config.Volumes}}", "made:1").out
    assert shown.startswith(id) and "A=b" in shown and "/v" in shown
    assert "why" in machine("history", "made:1").out
    machine("rm", "one")
    assert machine("run", "made:1").out == "kept\n"
    assert machine("run", "made:1", "sh", "-c", "ls /etc/group || echo gone").out == "gone\n"
    machine("create", "base", "true")
    assert "Deleted Containers:" in machine("container", "prune", "-f").out
    assert machine("ps", "-aq").out == ""


def test_what_is_mounted_to_be_read_is_not_written_through_cp(
    machine: Pybuild, tmp_path: Path
) -> None:
    """Also of a container that does not run, where its mounts are made for the copy, and by a link."""
    here, file = tmp_path / "here", tmp_path / "file"
    here.mkdir()
    file.write_text("x")
    link = "ln -s /ro /leads; sleep 1000"
    machine("run", "-d", "--name", "one", "-v", f"{here}:/ro:ro", "base", "sh", "-c", link)
    wait_until(lambda: "/leads" in machine("diff", "one").out)
    for runs in (True, False):
        for place in ("/ro/file", "/leads/file"):
            error = machine("cp", file, f"one:{place}", code=1).err
            assert "mounted volume is marked read-only" in error, (runs, error)
        if runs:
            machine("kill", "one")
    assert not os.listdir(here)
