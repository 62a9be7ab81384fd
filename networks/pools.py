"""Subnets for new networks, and addresses for containers [NET-2, NET-3]. Pure.

Addresses are plain numbers here; the monitors of containers, which ask for them, import nothing for it.
"""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from pybuild.networks.records import Subnet

_POOLS = (*(f"172.{second}.0.0/16" for second in range(17, 32)),) + tuple(
    f"192.168.{third}.0/20" for third in range(0, 256, 16)
)


class Block:
    """A range of addresses: *first* to *last*, all that share so many bits with it."""

    __slots__ = ("bits", "first", "last", "prefix")

    def __init__(self, text: str) -> None:
        """Raises ValueError: *text* is none."""
        address, slash, length = text.partition("/")
        packed = packed_address(address)
        self.bits = len(packed) * 8
        if not slash or not length.isdecimal() or len(length) > 3 or int(length) > self.bits:
            raise ValueError(f"invalid CIDR address: {text}")
        self.prefix = int(length)
        size = 1 << self.bits - self.prefix
        self.first = int.from_bytes(packed, "big") & ~(size - 1)
        self.last = self.first + size - 1

    def __str__(self) -> str:
        return f"{shown(self.first, self.bits)}/{self.prefix}"

    def holds(self, address: str) -> bool:
        packed = packed_address(address)
        return (
            len(packed) * 8 == self.bits
            and self.first <= int.from_bytes(packed, "big") <= self.last
        )

    def includes(self, other: Block) -> bool:
        return self.bits == other.bits and self.first <= other.first and other.last <= self.last

    def overlaps(self, other: Block) -> bool:
        return self.bits == other.bits and self.first <= other.last and other.first <= self.last


def packed_address(text: str) -> bytes:
    """Return the 4 or 16 bytes of an address.

    Raises:
        ValueError: it is none.
    """
    try:
        return _socket.inet_pton(_socket.AF_INET6 if ":" in text else _socket.AF_INET, text)
    except (OSError, ValueError):
        raise ValueError(f"invalid IP address: {text}") from None


def spelled(text: str) -> str:
    """Return an address in the one way that we write it; of version 6 there are many.

    Raises:
        ValueError: it is none.
    """
    packed = packed_address(text)
    return shown(int.from_bytes(packed, "big"), len(packed) * 8)


def shown(number: int, bits: int) -> str:
    """Return an address as it is written."""
    family = _socket.AF_INET6 if bits == 128 else _socket.AF_INET
    return _socket.inet_ntop(family, number.to_bytes(bits // 8, "big"))


def free_pool(taken: Iterable[Block]) -> Block | None:
    """Return the first of the usual subnets that overlaps none of *taken*; None: all do."""
    blocks = list(taken)
    for text in _POOLS:
        pool = Block(text)
        if not any(pool.overlaps(one) for one in blocks):
            return pool
    return None


def unique_local(machine: str, network: str) -> Block:
    """Return the subnet of IPv6 that a network has for itself: the same each time, and no other's."""
    from hashlib import sha256

    digest = sha256(f"{machine}/{network}".encode()).digest()
    packed = b"\xfd" + digest[:7] + bytes(8)
    return Block(f"{_socket.inet_ntop(_socket.AF_INET6, packed)}/64")


def first_address(block: Block) -> str:
    """Return the address that a gateway gets."""
    return shown(block.first + (1 if block.prefix < block.bits - 1 else 0), block.bits)


def free_address(subnet: Subnet, taken: Container[str], last: str) -> str:
    """Return the next address after *last* that nobody has, "": there is none.

    One that was given back is not given out at once: who still has it in mind would meet another.
    """
    whole = Block(subnet.prefix)
    pool = Block(subnet.range) if subnet.range else whole
    never = {subnet.gateway, *subnet.reserved}
    first, end = pool.first, pool.last
    if whole.prefix < whole.bits - 1:
        first = max(first, whole.first + 1)
        if whole.bits == 32:
            end = min(end, whole.last - 1)
    count = end - first + 1
    offset = 0
    if last and pool.holds(last):
        offset = int.from_bytes(packed_address(last), "big") + 1 - first
    for step in range(min(count, 1 << 17)):
        address = shown(first + (offset + step) % count, whole.bits)
        if address not in never and address not in taken:
            return address
    return ""
