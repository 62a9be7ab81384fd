"""The texts of /etc/resolv.conf and /etc/hosts that a step sees [SBX-9, SBX-10]. Pure."""

from __future__ import annotations

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class DnsSettings(Protocol):
        """The overrides in the builder's configuration."""

        @property
        def nameservers(self) -> Sequence[str]: ...
        @property
        def options(self) -> Sequence[str]: ...
        @property
        def search_domains(self) -> Sequence[str]: ...


DEFAULT_HOSTNAME = "buildkitsandbox"
RESOLV_CONF = "/etc/resolv.conf"
SYSTEMD_RESOLV_CONF = "/run/systemd/resolve/resolv.conf"
_STUB = "127.0.0.53"
_LOOPBACK_4, _LOOPBACK_6 = 127, bytes(15) + b"\1"
PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4", "2001:4860:4860::8888", "2001:4860:4860::8844")


def hosts(hostname: str, add_hosts: Sequence[tuple[str, str]] = ()) -> str:
    """Return the hosts file: the loopback names, then ``(name, address)`` pairs in order."""
    lines = [
        f"127.0.0.1\tlocalhost {hostname or DEFAULT_HOSTNAME}",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        *(f"{address}\t{name}" for name, address in add_hosts),
    ]
    return "\n".join(lines) + "\n"


def is_stub(resolv_conf: str) -> bool:
    """Return whether systemd-resolved's loopback server is the only one: look at its own file then."""
    return _servers(resolv_conf) == [_STUB]


def resolv_conf(
    host_text: str,
    *,
    host_network: bool,
    dns: DnsSettings | None = None,
    gateway: str = "",
) -> str:
    """Return a step's resolv.conf, made from the host's.

    With the host's network its loopback servers work, so nothing is filtered. Otherwise they are
    dropped, and public ones take their place when none is left.

    Args:
        gateway: answers for the first server of the host that nobody else reaches, see `local_server`.
    """
    keep: list[str] = []
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in host_text.splitlines():
        words = line.split()
        match words[:1]:
            case ["nameserver"]:
                servers += words[1:2]
            case ["search"] | ["domain"]:
                search = words[1:]  # the last one wins
            case ["options"]:
                options += words[1:]
            case []:
                continue
            case [word] if word[0] in "#;":
                continue
            case _:
                keep.append(line.strip())
    if dns is not None:
        servers = list(dns.nameservers) or servers
        search = list(dns.search_domains) or search
        options = list(dns.options) or options
    if gateway:
        local = _first_local(_servers(host_text))
        servers = [gateway if server == local else server for server in servers]
        servers = [server for server in servers if not _is_local(server)]
    if not host_network:
        servers = [server for server in servers if not _is_loopback(server)]
    if not servers:
        servers = list(PUBLIC_SERVERS)
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return "\n".join([*lines, *keep]) + "\n"


def _servers(text: str) -> list[str]:
    directives = [line.split() for line in text.splitlines()]
    return [words[1] for words in directives if words[:1] == ["nameserver"] and len(words) > 1]


def _is_loopback(server: str) -> bool:
    text = server.partition("%")[0]
    try:
        if ":" in text:
            return _socket.inet_pton(_socket.AF_INET6, text) == _LOOPBACK_6
        return _socket.inet_pton(_socket.AF_INET, text)[0] == _LOOPBACK_4
    except OSError:
        return False


def _is_local(server: str) -> bool:
    """Whether a server is of IP version 4, and answers this machine alone."""
    return server.startswith(("127.", "169.254."))


def _first_local(servers: Sequence[str]) -> str:
    return next(filter(_is_local, servers), "")


def local_server() -> str:
    """Return the first server that is asked here and that only this machine reaches, "": there is none."""
    return _first_local(_servers(_beyond_stub(host_resolv_conf())))


def _beyond_stub(text: str) -> str:
    """Return the servers that systemd-resolved asks where it is the only one in *text*."""
    return (_read(SYSTEMD_RESOLV_CONF) if is_stub(text) else "") or text


def host_resolv_conf() -> str:
    """Return this machine's resolver configuration; absent counts as empty."""
    return _read(RESOLV_CONF)


def step_resolv_conf(*, host_network: bool, dns: DnsSettings | None, gateway: str = "") -> str:
    """Read this machine's resolver configuration and return a step's; arguments as `resolv_conf`'s."""
    text = host_resolv_conf()
    if not host_network:
        text = _beyond_stub(text)
    return resolv_conf(text, host_network=host_network, dns=dns, gateway=gateway)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(64 << 10)
    except OSError:
        return ""
