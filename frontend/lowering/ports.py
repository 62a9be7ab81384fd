"""EXPOSE: port specifications as Docker reads them [EXP-P1]."""

from __future__ import annotations

from pybuild.model.dataclass import dataclass
from pybuild.model.errors import UserError

_PROTOCOLS = ("tcp", "udp", "sctp")


@dataclass(frozen=True, slots=True)
class PortSpec:
    """The ports of one word of EXPOSE.

    Attributes:
        ports: ``80/tcp`` and so on, one for each port of a range.
        protocol: as written, ``tcp`` when it was not.
        numbers: the ports alone.
        address, host_numbers: of the host, "" and () where not given; EXPOSE has no use for them.
    """

    ports: tuple[str, ...]
    protocol: str
    numbers: tuple[int, ...]
    address: str
    host_numbers: tuple[int, ...]

    @property
    def has_host_part(self) -> bool:
        return bool(self.address or self.host_numbers)


def parse_port(text: str) -> PortSpec:
    """Read ``[[ip:]host:]port[-port][/protocol]``.

    Raises:
        UserError: with Docker's wording.
    """
    head, _, last = text.rpartition(":")
    address, _, host = head.rpartition(":")
    port, _, protocol = last.partition("/")
    if not port:
        raise UserError(f'invalid port: "{text}": no port specified')
    if protocol and protocol.lower() not in _PROTOCOLS:
        raise UserError(f'invalid port: "{text}": invalid proto: {protocol}')
    if address:
        _check_address(address)
    numbers = _range(port)
    if numbers is None:
        hint = "a port is a number up to 65535: EXPOSE 80, or 53/udp"
        raise UserError(f"invalid containerPort: {port}", hints=(hint,))
    hosts = _range(host) if host else range(0)
    if hosts is None:
        raise UserError(f"invalid hostPort: {host}")
    if hosts and len(hosts) != len(numbers) and len(numbers) > 1:
        raise UserError(f"invalid ranges specified for container and host Ports: {port} and {host}")
    return PortSpec(
        ports=tuple(f"{number}/{(protocol or 'tcp').lower()}" for number in numbers),
        protocol=protocol or "tcp",
        numbers=tuple(numbers),
        address=address,
        host_numbers=tuple(hosts),
    )


def _range(text: str) -> range | None:
    first, dash, last = text.partition("-")
    start = _number(first)
    end = _number(last) if dash and last != first else start
    if start is None or end is None or end < start:
        return None
    return range(start, end + 1)


def _number(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 8 or int(text) > 65535:
        return None
    return int(text)


def _check_address(text: str) -> None:
    import ipaddress

    plain = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        raise UserError(f"invalid IP address: {plain}") from None
