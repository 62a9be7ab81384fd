"""Network namespaces for steps of builds, each at the bridge of all builds. For the zygote, by name.

The address of a namespace goes with the name of its wire, which the kernel gives to one alone and takes
back with the namespace: no record of it has to be kept, and none is left behind.
"""

from __future__ import annotations

import errno
import os

from pybuild.executor.zygote import syscalls
from pybuild.executor.zygote.faults import ENVIRONMENT, Fault, describe_os_error
from pybuild.networks import pools
from pybuild.networks.rtnetlink import Inside, Rtnetlink, index_of

WIRE = "pbstep"
_DEVICE = "eth0"
_MOST = 4096
_LOOPBACK = 1
_NO_IPV6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6"


def make(bridge: str, gateway: str, prefix: str, mtu: str) -> tuple[int, int]:
    """Return the descriptors of a new namespace that leads outside, and of its ``sockstat``.

    Args:
        gateway: the address of *bridge* in the subnet *prefix*.
        mtu: the greatest packet; 0: the kernel's.

    Raises:
        Fault: environment; it cannot be.
    """
    try:
        return _made(bridge, gateway, pools.Block(prefix), int(mtu))
    except OSError as error:
        raise Fault(
            ENVIRONMENT,
            describe_os_error(error, "cannot make a network for the step"),
            ('have steps use the host\'s: [network] mode = "host" in pybuild.toml',),
        ) from error


def _made(bridge: str, gateway: str, subnet: pools.Block, mtu: int) -> tuple[int, int]:
    namespace, sockets = _new()
    try:
        address = _plug(bridge, namespace, subnet, mtu)
        with Inside(namespace):
            index = index_of(_DEVICE)
            with Rtnetlink() as inside:
                inside.set_up(_LOOPBACK)
                inside.add_address(index, address, subnet.prefix)
                inside.set_up(index)
                inside.add_default_route(index, pools.packed_address(gateway))
    except BaseException:
        syscalls.close_quietly(namespace, sockets)
        raise
    return namespace, sockets


def _new() -> tuple[int, int]:
    """Return a namespace with nothing in it, and its ``sockstat``."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        try:
            _leave_out_ipv6()
            namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                return namespace, os.open("/proc/thread-self/net/sockstat", os.O_RDONLY)
            except BaseException:
                os.close(namespace)
                raise
        finally:
            syscalls.setns(own, syscalls.CLONE_NEWNET)
    finally:
        os.close(own)


def _leave_out_ipv6() -> None:
    """Have devices to come without IPv6, which the bridge does not carry; ``::1`` stays."""
    try:
        file = os.open(
            _NO_IPV6, os.O_WRONLY | os.O_CLOEXEC
        )  # open() imports the encoding, for 0.3 ms
        try:
            os.write(file, b"1")
        finally:
            os.close(file)
    except OSError:
        pass  # there is none, or /proc is read-only: the packet filter lets none of it through


def _plug(bridge: str, namespace: int, subnet: pools.Block, mtu: int) -> bytes:
    """Lay a wire from the bridge to a namespace; return the address that goes with it."""
    with Rtnetlink() as outside:
        master = index_of(bridge)
        # The bridge has the first address, and the last is everybody's. The lowest that is free is
        # taken, so that most builds see the same each time.
        for offset in range(2, min(_MOST, subnet.last - subnet.first)):
            wire, address = f"{WIRE}{offset}", (subnet.first + offset).to_bytes(4, "big")
            if index_of(wire):
                continue
            try:
                outside.add_veth(wire, master, _DEVICE, namespace, b"\x02\x42" + address, mtu)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
                continue  # another process was faster
            outside.set_port(index_of(wire), hairpin=False, isolated=True)
            return address
    raise Fault(ENVIRONMENT, "the network of builds has no free address")
