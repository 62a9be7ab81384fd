"""The abilities of this machine for steps, each with its state, its purpose and its mend."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from enum import StrEnum

from pybuild.cache.disk.atomic import make_parents
from pybuild.cache.disk.custody import take
from pybuild.cache.disk.ownership import doubt
from pybuild.executor.workers.launch import default_pythonpath
from pybuild.executor.zygote import hierarchies, isolation, procstatus
from pybuild.model.dataclass import dataclass
from pybuild.model.errors import EnvironmentFault

_SECONDS = 20.0
_OVERLAY_KERNEL = [5, 12]  # mount_setattr; overlay in user namespaces is one release older
_RUNTIMES = ("crun", "runc", "youki")
_BOOT = "import sys; sys.path += sys.argv[2:]; from pybuild.executor.zygote.tries import main; "


class CheckState(StrEnum):
    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was probed: what was found, and one line that mends it, if it needs to be."""

    name: str
    state: CheckState
    finding: str
    fix: str = ""


def try_in_store(root: str) -> tuple[Check, Mapping[str, str]]:
    """Return the state of the store at *root*, and the findings of `try_all` there, or elsewhere if that cannot be."""
    made = not os.path.isdir(root)
    store, place = _place_in_store(root)
    if not place:
        with tempfile.TemporaryDirectory(prefix="pybuild-doctor-") as folder:
            return store, try_all(folder, default_pythonpath())
    try:
        return store, try_all(place, default_pythonpath())
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if made and not os.listdir(root):
            os.rmdir(root)


def _place_in_store(root: str) -> tuple[Check, str]:
    """Make a directory in the store; empty with the reason if that cannot be."""
    try:
        refusal = take(root, lambda message: None)
        if refusal is not None:
            why, hints = refusal
            return Check("store", CheckState.MISSING, f"{root} {why}", "; ".join(hints)), ""
        make_parents(os.path.join(root, "x"))
        place = tempfile.mkdtemp(prefix="doctor-", dir=root)
        danger = doubt(root)
    except OSError as error:
        text = f"{root}: {error.strerror}"
        return Check("store", CheckState.MISSING, text, "choose another directory with --root"), ""
    if danger:
        return Check(
            "store", CheckState.LIMITED, f"{root}: {danger.text}", "take that right away"
        ), place
    return Check("store", CheckState.OK, root), place


def try_all(directory: str, pythonpath: Sequence[str]) -> dict[str, str]:
    """Return the findings of `executor.zygote.tries`, from an interpreter of its own.

    Raises:
        EnvironmentFault: it did not answer.
    """
    command = [sys.executable, "-I", "-S", "-c", _BOOT + "main(sys.argv[1])", directory]
    try:
        done = subprocess.run(
            [*command, *pythonpath],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        findings: dict[str, str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"cannot probe the kernel: {error}") from error
    return findings


def examine(tried: Mapping[str, str]) -> list[Check]:
    """Return the checks in the order they are shown."""
    checks = [
        _kernel(os.uname().release),
        _privileges(),
        _user_namespaces(tried["user namespace"]),
        _sub_ids(),
        _map_tools(),
        _chroot(),
        _overlay(tried),
        _proc(tried["proc"]),
        _seccomp(),
        *_labels(),
        *_cgroups(),
        _network(tried),
        _runtimes(),
        _emulators(),
        Check("fuse", CheckState.INFO, "not needed: the kernel's own overlay is used"),
    ]
    return checks


def _kernel(release: str) -> Check:
    numbers = re.match(r"(\d+)\.(\d+)", release)
    version = [int(number) for number in numbers.groups()] if numbers else []
    if version >= _OVERLAY_KERNEL:
        return Check("kernel", CheckState.OK, release)
    return Check("kernel", CheckState.MISSING, release, "boot Linux 5.12 or later")


def _privileges() -> Check:
    uid = os.geteuid()
    if uid:
        return Check("user", CheckState.INFO, f"uid {uid}: steps need a user namespace")
    if procstatus.number("CapEff") >> 21 & 1 and not procstatus.is_initial():
        place = f"root of a user namespace that has {_ids(isolation.ids_here())}"
        return Check("user", CheckState.INFO, place, "start pybuild outside of the user namespace")
    if procstatus.number("CapEff") >> 21 & 1:
        return Check("user", CheckState.OK, "root with CAP_SYS_ADMIN")
    return Check(
        "user",
        CheckState.LIMITED,
        "root without CAP_SYS_ADMIN, as in a container",
        "start the container with --cap-add SYS_ADMIN --security-opt seccomp=unconfined",
    )


def _ids(count: int) -> str:
    return f"{count} ids" if count > 1 else "one id"


def _user_namespaces(problem: str) -> Check:
    name = "user namespaces"
    if not problem:
        return Check(name, CheckState.OK, "can be made")
    fixes = (
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "sysctl kernel.unprivileged_userns_clone=1",
        ),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    )
    for path, bad, fix in fixes:
        if _read(path) == bad:
            return Check(name, CheckState.MISSING, f"{problem}: {path} is {bad}", fix)
    fix = "in a container: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    return Check(name, CheckState.MISSING, problem, fix)


def _sub_ids() -> Check:
    import pwd

    uid = os.getuid()
    try:
        login = pwd.getpwuid(uid).pw_name
    except KeyError:
        login = str(uid)
    counts = [_granted(path, {login, str(uid)}) for path in ("/etc/subuid", "/etc/subgid")]
    grants = f"{counts[0]} user ids and {counts[1]} group ids for {login}"
    if uid == 0 and not procstatus.is_initial():
        here = isolation.ids_here()
        fix = "" if here > 1 else "start pybuild outside of the user namespace"
        state = CheckState.INFO if here > 1 else CheckState.MISSING
        return Check("sub-ids", state, f"{_ids(here)} in this user namespace", fix)
    if min(counts) >= 65536:
        return Check("sub-ids", CheckState.OK, grants)
    if uid == 0:
        return Check("sub-ids", CheckState.INFO, grants + "; root needs none")
    fix = f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {login}"
    return Check("sub-ids", CheckState.LIMITED if min(counts) else CheckState.MISSING, grants, fix)


def _granted(path: str, names: set[str]) -> int:
    fields = [line.split(":") for line in _read(path).splitlines()]
    return sum(int(f[2]) for f in fields if len(f) == 3 and f[0] in names and f[2].isdigit())


def _map_tools() -> Check:
    missing = [tool for tool in ("newuidmap", "newgidmap") if not shutil.which(tool)]
    if not missing:
        return Check("newuidmap", CheckState.OK, shutil.which("newuidmap") or "")
    state = CheckState.INFO if os.geteuid() == 0 else CheckState.MISSING
    return Check(
        "newuidmap",
        state,
        " and ".join(missing) + " not installed",
        "install the package uidmap (shadow-utils)",
    )


def _chroot() -> Check:
    """The abilities of root where it may neither mount nor make namespaces."""
    if os.geteuid():
        return Check("chroot", CheckState.MISSING, "needs root", "run as root, in a container")
    held = procstatus.number("CapEff")
    missing = [name for number, name in isolation.CHROOT_CAPS.items() if not held >> number & 1]
    if not missing:
        return Check("chroot", CheckState.OK, "root has the capabilities that it needs")
    names = ", ".join(missing)
    fixes = " ".join(f"--cap-add {name}" for name in missing)
    return Check("chroot", CheckState.MISSING, f"root lacks {names}", f"in a container: {fixes}")


def _overlay(tried: Mapping[str, str]) -> Check:
    as_root = os.geteuid() == 0 and not tried["mount namespace"] and procstatus.is_initial()
    problem = tried["overlay" if as_root else "overlay in user namespace"]
    where = "in the store" if as_root else "in user namespaces, in the store"
    if not problem:
        return Check("overlay", CheckState.OK, where)
    if not as_root and tried["user namespace"]:
        return Check("overlay", CheckState.MISSING, "needs a user namespace")
    fix = "put the store on ext4, xfs, btrfs or tmpfs (--root); modprobe overlay"
    return Check("overlay", CheckState.MISSING, f"{where}: {problem}", fix)


def _proc(problem: str) -> Check:
    if not problem:
        return Check("/proc", CheckState.OK, "steps can have their own")
    fix = "in a container: --security-opt systempaths=unconfined"
    return Check("/proc", CheckState.MISSING, f"cannot be mounted for a step: {problem}", fix)


def _seccomp() -> Check:
    actions = _read("/proc/sys/kernel/seccomp/actions_avail").split()
    outer = (
        "; we run under a filter ourselves" if procstatus.number("Seccomp", base=10) == 2 else ""
    )
    if not actions:
        return Check(
            "seccomp", CheckState.MISSING, "not in this kernel", "boot one with CONFIG_SECCOMP"
        )
    if "user_notif" not in actions:
        text = "no user notifications: owners cannot be recorded with a single id" + outer
        return Check("seccomp", CheckState.LIMITED, text, "boot Linux 5.5 or later")
    return Check("seccomp", CheckState.OK, "filters and user notifications" + outer)


def _labels() -> list[Check]:
    checks: list[Check] = []
    if _read("/sys/module/apparmor/parameters/enabled") == "Y":
        profile = _read("/proc/self/attr/current") or "unconfined"
        confined = not profile.startswith("unconfined")
        checks.append(
            Check(
                "apparmor",
                CheckState.LIMITED if confined else CheckState.OK,
                f"we run as {profile}",
                "if steps are refused: --security-opt apparmor=unconfined" if confined else "",
            )
        )
    if os.path.exists("/sys/fs/selinux/enforce"):
        mode = "enforcing" if _read("/sys/fs/selinux/enforce") == "1" else "permissive"
        checks.append(Check("selinux", CheckState.INFO, mode))
    return checks or [Check("apparmor", CheckState.INFO, "neither AppArmor nor SELinux")]


def _cgroups() -> list[Check]:
    places = hierarchies.hierarchies()
    if not places:
        fix = "mount cgroup2 on /sys/fs/cgroup; without, limits of RUN are not enforced"
        return [Check("cgroups", CheckState.MISSING, "none mounted", fix)]
    checks: list[Check] = []
    missing = {"memory", "pids", "cpu", "cpuset"}
    for hierarchy in places:
        names = ", ".join(hierarchy.controllers)
        if not hierarchy.problem:
            missing -= set(hierarchy.controllers)
            state, text = CheckState.OK, f"{names or 'no controllers'} in {hierarchy.home}"
        else:
            state, text = CheckState.LIMITED, f"{names}: {hierarchy.problem}".removeprefix(": ")
        checks.append(Check(f"cgroup v{hierarchy.version}", state, text))
    if missing:
        fix = (
            "run in a delegated cgroup: systemd-run --user --scope -p Delegate=yes pybuild …"
            if os.geteuid()
            else "run in a cgroup of its own that is writable (a container: --cgroupns=private)"
        )
        text = f"not for {', '.join(sorted(missing))}: such limits of RUN are not enforced"
        checks.append(Check("limits", CheckState.LIMITED, text, fix))
    else:
        checks.append(Check("limits", CheckState.OK, "of memory, processors and processes"))
    return checks


def _network(tried: Mapping[str, str]) -> Check:
    helper = shutil.which("slirp4netns")
    if not (os.geteuid() or tried["network namespace"]):
        text = (
            "RUN has a network of its own where nftables is there and lets its packets pass, else "
            "this machine's, and says so"
        )
        return Check("network", CheckState.OK, text)
    texts = ["RUN has the host's network by default, and reaches what listens on its loopback"]
    if tried["network namespace"]:
        texts.append(f"--network=none is not possible: {tried['network namespace']}")
        fix = "allow network namespaces: sysctl user.max_net_namespaces=15000"
        return Check("network", CheckState.LIMITED, "; ".join(texts), fix)
    if not helper:
        texts.append("mode = isolated is not possible: no slirp4netns")
        return Check("network", CheckState.INFO, "; ".join(texts), "install slirp4netns")
    if tried["tun"]:
        texts.append(f"mode = isolated is not possible: {tried['tun']}")
        return Check(
            "network", CheckState.INFO, "; ".join(texts), "as root: chmod 666 /dev/net/tun"
        )
    texts.append("isolated by slirp4netns where the configuration says so")
    return Check("network", CheckState.OK, "; ".join(texts))


def _runtimes() -> Check:
    runtimes = [f"{name} {_version(path)}" for name in _RUNTIMES if (path := shutil.which(name))]
    text = ", ".join(runtimes) or "none"
    return Check(
        "oci runtimes", CheckState.INFO, f"{text}; not needed: steps have a sandbox of ours"
    )


def _version(path: str) -> str:
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return "(does not start)"
    match = re.search(r"version v?(\S+)", done.stdout)
    return match[1] if match else "(unknown version)"


def _emulators() -> Check:
    directory = "/proc/sys/fs/binfmt_misc"
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        names = []
    platforms = [n.removeprefix("qemu-") for n in names if n.startswith("qemu-")]
    if platforms:
        return Check("emulators", CheckState.OK, ", ".join(platforms))
    fix = "for RUN on other platforms: install qemu-user-static and binfmt-support"
    return Check("emulators", CheckState.INFO, "none registered", fix)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip().strip("\0")
    except OSError:
        return ""
