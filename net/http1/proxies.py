"""The HTTP proxy between us and a server [REG-13]; a pure reading of the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from pybuild.model.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        variable: of the environment, which names it.
    """

    url: str
    variable: str


def proxy_for(scheme: str, host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a request to *host*, or None to go straight.

    As Go's programs have it: lower-case names win over upper-case ones, ``NO_PROXY`` holds host
    suffixes, addresses, networks and ``*``, and loopback never goes through a proxy.
    """
    lower = f"{scheme}_proxy"
    variable = lower if environ.get(lower) else lower.upper()
    proxy = environ.get(variable)
    if not proxy:
        return None
    host = host.lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return None
    for entry in (environ.get("no_proxy") or environ.get("NO_PROXY") or "").split(","):
        if _exempts(entry.strip().lower(), host, port, address):
            return None
    return Proxy(proxy if "://" in proxy else "http://" + proxy, variable)


def _exempts(
    entry: str,
    host: str,
    port: int,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
) -> bool:
    if entry == "*":
        return True
    if not entry:
        return False
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            pass
    name, colon, entry_port = entry.rpartition(":")
    if colon and entry_port.isdigit() and "]" not in entry_port:
        entry = name.strip("[]")
        if int(entry_port) != port:
            return False
    if entry.startswith("*."):
        entry = entry[1:]
    if entry.startswith("."):
        return host.endswith(entry)
    return host == entry or host.endswith("." + entry)
