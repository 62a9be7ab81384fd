"""The abilities of this machine for steps, tried here, and what is said where things are missing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from pybuild.executor.doctor import Check, CheckState, examine, try_all, try_in_store
from pybuild.executor.rungs import as_text, rungs_of
from pybuild.executor.workers.launch import default_pythonpath
from pybuild.executor.zygote import isolation, procstatus

_NAMES = ("user namespace", "mount namespace", "overlay", "overlay in user namespace", "proc")
FINE = {name: "" for name in (*_NAMES, "network namespace", "tun")}


def checks(**states: tuple[CheckState, str, str]) -> list[Check]:
    known = {
        "user": (CheckState.INFO, "uid 7: steps need a user namespace", ""),
        "user namespaces": (CheckState.OK, "can be made", ""),
        "newuidmap": (CheckState.OK, "/usr/bin/newuidmap", ""),
        "sub-ids": (CheckState.OK, "65536", ""),
        "overlay": (CheckState.OK, "", ""),
        "/proc": (CheckState.OK, "", ""),
        "chroot": (CheckState.MISSING, "needs root", "run as root, in a container"),
    }
    known |= {name.replace("_", " "): state for name, state in states.items()}
    return [Check(name, *state) for name, state in known.items()]


def test_rungs_above_the_chosen_one_say_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    found = checks(newuidmap=(CheckState.MISSING, "newuidmap not installed", "install uidmap"))
    rungs = rungs_of("userns-single", "newuidmap is not there", found, FINE)
    assert [(r.name, r.state) for r in rungs] == [
        ("root", "not possible"),
        ("userns", "not possible"),
        ("userns-single", "chosen"),
        ("chroot", "not possible"),
    ]
    assert rungs[1].why == "newuidmap: newuidmap not installed"
    assert rungs[1].fix == "install uidmap"
    text = as_text(rungs, found)
    assert "userns-single   chosen" in text
    assert "userns      install uidmap" in text


def test_a_reason_that_no_check_knows_is_that_of_the_climb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    rungs = rungs_of("userns-single", "newuidmap: write to uid_map failed", checks(), FINE)
    assert rungs[1].why == "newuidmap: write to uid_map failed"


def test_without_any_rung_all_are_refused() -> None:
    rungs = rungs_of("", "no way", checks(), {**FINE, "user namespace": "No space left"})
    assert {r.state for r in rungs} == {"not possible"}
    assert rungs[2].why == "no way"


def test_root_in_a_container_is_told_why_it_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = checks(
        user=(CheckState.LIMITED, "root without CAP_SYS_ADMIN", "--cap-add SYS_ADMIN"),
        user_namespaces=(CheckState.OK, "can be made", ""),
        chroot=(CheckState.OK, "", ""),
    )
    found = [
        Check(c.name, CheckState.MISSING, "refused", "mend") if c.name == "/proc" else c
        for c in found
    ]
    rungs = rungs_of("chroot", "no /proc", found, FINE)
    assert [(r.name, r.state, r.why) for r in rungs] == [
        ("root", "not possible", "root without CAP_SYS_ADMIN"),
        ("userns", "not possible", "/proc: refused"),
        ("userns-single", "not possible", "/proc: refused"),
        ("chroot", "chosen", ""),
    ]


def found(**tried: str) -> Mapping[str, Check]:
    """Return the checks of this machine by name, where the tries went wrong so."""
    problems = {name.replace("_", " "): problem for name, problem in tried.items()}
    return {check.name: check for check in examine({**FINE, **problems})}


def test_the_kernel_is_asked_what_it_allows(tmp_path: Path) -> None:
    tried = try_all(str(tmp_path), default_pythonpath())
    assert tried.keys() == FINE.keys()
    if os.geteuid() == 0 and procstatus.number("CapEff") >> 21 & 1:
        assert (tried["mount namespace"], tried["network namespace"]) == ("", "")
    assert {one.name for one in tmp_path.iterdir()} == {name.replace(" ", "-") for name in FINE}


def test_a_store_is_left_as_it_was(tmp_path: Path) -> None:
    store, tried = try_in_store(str(tmp_path / "new"))
    assert (store.state, store.finding) == (CheckState.OK, str(tmp_path / "new"))
    assert tried.keys() == FINE.keys() and not (tmp_path / "new").exists()
    kept = tmp_path / "kept"
    kept.mkdir(mode=0o700)
    (kept / "file").write_text("")
    store, _ = try_in_store(str(kept))
    assert store.name == "store" and [one.name for one in kept.iterdir()] == ["file"]
    (tmp_path / "file").write_text("")
    store, tried = try_in_store(str(tmp_path / "file"))
    assert (store.state, tried.keys()) == (CheckState.MISSING, FINE.keys())
    assert str(tmp_path / "file") in store.finding and store.fix


def test_what_is_missing_is_said_with_its_mend() -> None:
    fine = found()
    assert fine["user namespaces"] == Check("user namespaces", CheckState.OK, "can be made")
    assert fine["/proc"] == Check("/proc", CheckState.OK, "steps can have their own")
    assert fine["fuse"].state is CheckState.INFO and fine["kernel"].state is CheckState.OK
    assert fine["kernel"].finding == os.uname().release
    none = found(user_namespace="No space left", proc="Not permitted")
    assert none["user namespaces"].state is CheckState.MISSING
    assert (
        none["user namespaces"].finding.startswith("No space left") and none["user namespaces"].fix
    )
    assert none["/proc"].finding == "cannot be mounted for a step: Not permitted"
    assert none["/proc"].fix == "in a container: --security-opt systempaths=unconfined"
    assert "isolated" in fine["network"].finding or fine["network"].state is CheckState.OK
    network = found(network_namespace="No space left")["network"]
    assert network.state is CheckState.LIMITED
    assert "--network=none is not possible: No space left" in network.finding
    assert network.fix == "allow network namespaces: sysctl user.max_net_namespaces=15000"


@pytest.mark.root
def test_root_has_what_root_has() -> None:
    if os.geteuid() or not procstatus.is_initial():
        pytest.skip("needs root")
    fine = found()
    held = procstatus.number("CapEff")
    is_whole = bool(held >> 21 & 1)
    assert fine["user"].state is (CheckState.OK if is_whole else CheckState.LIMITED)
    lacking = [name for number, name in isolation.CHROOT_CAPS.items() if not held >> number & 1]
    assert (fine["chroot"].state is CheckState.OK) == (not lacking)
    assert fine["overlay"] == Check("overlay", CheckState.OK, "in the store")
    refused = found(overlay="Invalid argument")["overlay"]
    assert refused.finding == "in the store: Invalid argument" and "--root" in refused.fix
    apart = found(mount_namespace="no", overlay_in_user_namespace="no")["overlay"]
    assert apart.finding == "in user namespaces, in the store: no"
    lost = found(mount_namespace="no", overlay_in_user_namespace="no", user_namespace="no")
    assert lost["overlay"] == Check("overlay", CheckState.MISSING, "needs a user namespace")
    assert fine["sub-ids"].state in (CheckState.OK, CheckState.INFO)


def test_a_user_is_told_what_root_would_not_need(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("geteuid", "getuid"):
        monkeypatch.setattr(os, name, lambda: 4321)
    monkeypatch.setenv("PATH", "")
    told = found()
    assert told["user"] == Check("user", CheckState.INFO, "uid 4321: steps need a user namespace")
    assert told["chroot"] == Check(
        "chroot", CheckState.MISSING, "needs root", "run as root, in a container"
    )
    assert told["sub-ids"].state is CheckState.MISSING
    assert told["sub-ids"].finding == "0 user ids and 0 group ids for 4321"
    assert told["sub-ids"].fix.endswith("--add-subgids 100000-165535 4321")
    assert told["newuidmap"].finding == "newuidmap and newgidmap not installed"
    assert told["newuidmap"].state is CheckState.MISSING
    assert told["network"].state is CheckState.INFO
    assert told["network"].fix == "install slirp4netns"
    assert told["oci runtimes"].finding == "none; not needed: steps have a sandbox of ours"


def test_programs_are_asked_for_their_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("crun", "echo crun version 1.2"), ("runc", "echo what"), ("youki", "exit")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "youki").write_text("no program")
    for name in ("newuidmap", "newgidmap", "slirp4netns"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = found()
    assert told["oci runtimes"].finding.startswith(
        "crun 1.2, runc (unknown version), youki (does not start); "
    )
    assert told["newuidmap"] == Check("newuidmap", CheckState.OK, str(tmp_path / "newuidmap"))
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert found()["network"].finding.endswith(
        "isolated by slirp4netns where the configuration says so"
    )
    tun = found(tun="Permission denied")["network"]
    assert tun.fix == "as root: chmod 666 /dev/net/tun" and "Permission denied" in tun.finding
