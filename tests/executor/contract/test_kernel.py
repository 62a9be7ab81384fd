"""The kernel and the machine as a step sees them: namespaces, /proc, /dev, /sys, networks."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest

from pybuild.executor.steps.spec import StepMount, StepMountType
from tests.executor.contract.rungs import RungBox
from tests.executor.sandbox_helpers import HOST_PROGRAMS
from tests.security import rawcalls
from tests.security.rawcalls import Call, Value

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


def test_namespaces_are_its_own(box: RungBox) -> None:
    """[SBX-1, SBX-11]"""
    done = box.sh(
        "echo $$; hostname; ps | wc -l; for n in /proc/self/ns/*; do readlink $n; done",
        hostname="inside",
    )
    first, name, processes, *spaces = done.out.split()
    assert (first, name) == ("1", "inside")
    assert processes in ("3", "4")  # header, sh, ps, and wc if it has begun
    ours = {os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "mnt", "ipc", "uts", "cgroup")}
    assert not ours & set(spaces)
    assert os.readlink("/proc/self/ns/net") in spaces  # default network is the host's


def test_host_mounts_are_not_visible(box: RungBox) -> None:
    done = box.sh("cat /proc/self/mountinfo; ls /")
    points = {line.split()[4] for line in done.out.splitlines() if " - " in line}
    assert {"/", "/proc", "/dev", "/sys", "/etc/hosts"} <= points
    assert all(p == "/" or p.startswith(("/proc", "/dev", "/sys", "/etc/")) for p in points)


def test_no_descriptor_leaks_in(box: RungBox) -> None:
    done = box.sh("ls /proc/1/fd; true")
    assert done.out.split() == ["0", "1", "2"]


def test_kernel_paths_are_masked_and_read_only(box: RungBox) -> None:
    """[SBX-5, SBX-6]"""
    done = box.sh(
        "wc -c < /proc/timer_list; ls /sys/firmware | wc -l;"
        "echo 1 > /proc/sys/kernel/domainname; echo h > /proc/sysrq-trigger; touch /sys/x"
    )
    assert done.out.split() == ["0", "0"]
    assert done.err.count("Read-only file system") + done.err.count("ermission denied") >= 2
    assert "touch: /sys/x: Read-only file system" in done.err


def test_insecure_unmasks(box: RungBox) -> None:
    """[SBX-3]"""
    script = "grep CapEff /proc/self/status; grep Seccomp: /proc/self/status; ls /sys/firmware"
    done = box.sh(script + "; mkdir /m; mount -t tmpfs none /m", security="insecure")
    own = next(x for x in Path("/proc/self/status").read_text().splitlines() if "CapEff" in x)
    has = int(done.out.splitlines()[0].split()[1], 16)
    assert has & int(own.split()[1], 16) == int(own.split()[1], 16)
    assert done.out.splitlines()[1].split()[1] == ("2" if box.rung.records else "0")
    assert (done.status, done.err) == (0, "")


def test_network_none_has_loopback_only(box: RungBox) -> None:
    """[RUN-5]"""
    done = box.sh("ip -o addr", network="none")
    assert {line.split()[1] for line in done.out.splitlines()} == {"lo"}
    assert "127.0.0.1/8" in done.out


_SOCKETS = """
import socket
for name, of in (
    ("packet", (17, 3, 0x300)), ("tcp", (2, 3, 6)), ("icmp", (2, 3, 1)), ("icmp6", (10, 3, 58)),
    ("stream", (2, 1, 0)), ("unix", (1, 2, 0)), ("netlink", (16, 3, 0)),
):
    try: socket.socket(*of); print(name, "yes")
    except OSError as error: print(name, "no")
"""


@pytest.mark.parametrize("network", ["default", "host", "none"])
def test_sockets_of_others_are_not_read(box: RungBox, network: str) -> None:
    """[SBX-8] A step may ping; it has the rest of raw sockets on a network of its own only."""
    python = ("/usr/bin/python3", "-I", "-S", "-c")
    done = box.run(*python, _SOCKETS, mounts=HOST_PROGRAMS, network=network)
    found = dict(line.split() for line in done.out.splitlines())
    assert len(found) == 7, done.err
    raw = {name for name in ("packet", "tcp", "icmp", "icmp6") if found.pop(name) == "yes"}
    assert set(found.values()) == {"yes"}
    if network == "none":
        assert raw == {"packet", "tcp", "icmp", "icmp6"}
    else:  # the network of a user namespace is not the machine's
        assert raw == ({"icmp", "icmp6"} if box.rung.uid == 0 else set())


def test_programs_of_32_bits_have_a_network(box: RungBox) -> None:
    """Their libraries make sockets by socketcall(2), which no filter can look into."""
    unanswered = bool(box.rung.runtime) or box.rung.is_jailed
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = struct.pack(
            "=H2s4s8x", 2, struct.pack("!H", server.getsockname()[1]), bytes((127, 0, 0, 1))
        )
        one, second = struct.pack("=i", 1), struct.pack("=2i", 5, 250_000)
        wanted: list[tuple[tuple[int, tuple[Value, ...]], int]] = [
            ((1, (2, 1 | 0o2000000, 0)), 3),  # socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC)
            ((14, (3, 1, 2, one, 4)), 0),  # setsockopt: SO_REUSEADDR
            ((14, (3, 1, 20, second, 8)), 0),  # SO_RCVTIMEO
            ((14, (3, 0, 3, one, 4)), -1),  # IP_HDRINCL
            ((14, (3, 0, 64, one, 4)), -92),  # IPT_SO_SET_REPLACE, of those who listen: ENOPROTOOPT
            ((14, (3, 1, 2, 1, 4)), -14),  # EFAULT
            ((14, (77, 1, 2, one, 4)), -9),  # EBADF
            ((14, (1, 1, 2, one, 4)), -88),  # ENOTSOCK
            ((3, (3, address, 16)), 0),  # connect
            ((1, (1, 2, 0)), 4),  # AF_UNIX
            ((1, (16, 3, 0)), 5),  # AF_NETLINK
            ((1, (2, 3, 1)), -1),  # a raw one, made with rights that are not the step's
            ((1, (17, 3, 0x300)), -1),
            ((1, (38, 5, 0)), -1),
            ((1, (40, 1, 0)), -1),
        ]
        calls: list[Call] = [(102, call) for call, _ in wanted]
        rawcalls.build(box.lower() / "net32", calls, bits=32)
        done = box.sh("/net32")
        found = rawcalls.results(done.out)
        assert len(found) == len(wanted), done
        if unanswered:
            assert max(found) < 0
        else:
            assert found == [result for _, result in wanted]
            server.accept()[0].close()


def test_resolv_conf_and_hosts_are_given_and_read_only(box: RungBox) -> None:
    """[SBX-9, SBX-10]"""
    done = box.sh("cat /etc/resolv.conf /etc/hosts; echo x > /etc/hosts; rm /etc/resolv.conf")
    assert done.out == "nameserver 192.0.2.1\n127.0.0.1 localhost\n"
    assert "Read-only" in done.err
    assert "busy" in done.err
    assert done.delta() == {}


def test_devices_are_the_engines(box: RungBox) -> None:
    """[SBX-4, SBX-7]"""
    done = box.sh("ls /dev; echo x > /dev/null; stat -c %a /dev/shm; touch /dev/shm/f")
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    assert done.out.split() == [*names.split(), "1777"]
    assert done.status == 0


def test_shm_size_is_as_asked(box: RungBox) -> None:
    done = box.sh("grep ' /dev/shm ' /proc/mounts", shm_size_bytes=1 << 20)
    assert "size=1024k" in done.out


def test_device_nodes_can_be_made_and_not_opened(box: RungBox) -> None:
    """[SBX-7] wherever a step can write."""
    mounts = (StepMount(type=StepMountType.TMPFS, target="/t"),)
    done = [
        box.sh(f"mknod {place} c 1 3 && echo made && cat {place}", mounts=mounts)
        for place in ("/node", "/dev/node", "/t/node")
    ]
    for one in done:
        assert one.out == "made\n", one.err
        # Where a node is noted, an empty file stands for it, and may be read.
        assert box.rung.records or "ermission denied" in one.err
    entry = box.layer(done[0])["node"]
    assert (entry.ischr(), entry.devmajor, entry.devminor) == (True, 1, 3)
