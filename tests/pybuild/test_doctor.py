"""`pybuild doctor`: what it finds here, and what it says where things are missing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from pybuild.cli import main
from tests.harness import ROOT, Pybuild
from tests.needs import need

NEW_ENOUGH = "import sys; sys.exit(sys.version_info < (3, 11))"


@pytest.mark.slow
@pytest.mark.sandbox
def test_root_of_a_user_namespace_is_not_taken_for_root(pybuild: Pybuild) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("unshare")
    done = subprocess.run(
        ["unshare", "--map-root-user", *pybuild.command("doctor", "--format=json")],
        capture_output=True,
        timeout=60,
        check=True,
        env=pybuild.environment,
    )
    report = json.loads(done.stdout)
    assert report["rung"] == "userns-single"
    assert [(rung["state"], rung["why"]) for rung in report["rungs"][:2]] == [
        ("not possible", "root of a user namespace that has one id"),
        ("not possible", "sub-ids: one id in this user namespace"),
    ]


@pytest.mark.slow
def test_it_finds_what_is_here_and_leaves_nothing(pybuild: Pybuild) -> None:
    done = pybuild("doctor", "--format=json", code=None)
    report = json.loads(done.out)
    assert (done.code == 0) == bool(report["rung"])
    names = [check["name"] for check in report["checks"]]
    assert names[:5] == ["store", "kernel", "user", "user namespaces", "sub-ids"]
    assert {"overlay", "seccomp", "network", "oci runtimes", "fuse"} <= set(names)
    if os.geteuid() == 0 and report["rung"]:
        assert report["rungs"][0]["state"] == "chosen"
    assert not pybuild.store.exists()
    text = pybuild("doctor", code=None).out
    assert text.startswith("RUNG")
    assert "kernel " in text


def test_a_report_is_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--format=xml"]) == 2
    assert capsys.readouterr().err.startswith('error: invalid format "xml": one of table, json\n')


@pytest.mark.slow
@pytest.mark.root
def test_it_says_how_to_allow_user_namespaces(tmp_path: Path) -> None:
    """In a jail like a container's: root by name, without its rights, user namespaces off."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    need("setpriv", "unshare")
    python = "/usr/bin/python3"
    if (
        not os.path.exists(python)
        or subprocess.run([python, "-c", NEW_ENOUGH], check=False).returncode
    ):
        pytest.skip("needs a Python 3.11 that every user may run, as /usr/bin/python3")
    if not os.access(ROOT, os.X_OK) or any(not p.stat().st_mode & 1 for p in ROOT.parents):
        pytest.skip("needs a checkout that other users may read")
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces; "
        'exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "$@"'
    )
    store = Path("/tmp") / f"pybuild-doctor-test-{os.getpid()}"
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Ur"]
        + ["sh", "-c", script, "sh", python, "-P", "-m", "pybuild", "doctor", "--format=json"]
        + ["--root", str(store)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/",
        },
    )
    if "unshare failed" in done.stderr:
        pytest.skip("user namespaces are not allowed here")
    report = json.loads(done.stdout)
    by_name = {check["name"]: check for check in report["checks"]}
    assert by_name["user namespaces"]["fix"] == "sysctl user.max_user_namespaces=15000"
    assert by_name["user"]["found"] == "root without CAP_SYS_ADMIN, as in a container"
    assert report["rungs"][0]["state"] == "not possible"
    assert "--cap-add SYS_ADMIN" in report["rungs"][0]["fix"]
    assert not store.exists()
