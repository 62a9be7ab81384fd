"""``pybuild daemon``: the build server. Also answers to the name ``buildkitd`` and its flags."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from pybuild.commandline.parser import BadOption, Parsed, parse
from pybuild.daemon.workerflags import BUILDKITD, without_workers
from pybuild.engine.settings import Settings, load_settings
from pybuild.model.errors import UsageError
from pybuild.model.package import VERSION

if TYPE_CHECKING:
    from pybuild.engine.engine import Engine


def main(parsed: Parsed) -> int:
    """Serve until a signal stops us."""
    settings = _settings(parsed, {})
    from pybuild.daemon.process import docker_addresses

    return _serve(
        settings,
        parsed.many("addr"),
        insecure=parsed.flag("insecure"),
        docker=docker_addresses(parsed.one("docker-socket"), parsed.many("docker-address")),
        cluster=parsed.one("cluster"),
        page=parsed.one("web"),
    )


def units(parsed: Parsed) -> int:
    """Write the units of systemd, or show them."""
    from pybuild.daemon.units import write_units

    folder, place = parsed.one("output"), parsed.one("docker-socket")
    sys.stdout.write(write_units(folder, is_user=parsed.flag("user"), docker_socket=place))
    return 0


def buildkitd(words: Sequence[str]) -> int:
    """Serve with the options of ``buildkitd``.

    Raises:
        BadOption: a flag that neither knows.
    """
    rest, labels, binary = without_workers(words)
    parsed = parse(rest, BUILDKITD)
    if parsed.flag("version"):
        sys.stdout.write(f"buildkitd pybuild {VERSION}\n")
        return 0
    if parsed.positionals:
        raise BadOption(f"unexpected argument {parsed.positionals[0]}")
    # Who sets this up says itself whom the address reaches, as with buildkitd.
    return _serve(_settings(parsed, labels, binary), parsed.many("addr"), insecure=True)


def _settings(parsed: Parsed, labels: dict[str, str], binary: str = "") -> Settings:
    settings = load_settings(
        parsed.one("config"),
        parsed.one("root"),
        runtime=parsed.one("runtime") or binary,
        cache_max=parsed.one("cache-max"),
        ca=parsed.many("ca"),
    )
    daemon = settings.daemon
    cert, key, ca = (parsed.one(name) for name in ("tlscert", "tlskey", "tlscacert"))
    daemon = replace(
        daemon,
        cert=cert or daemon.cert,
        key=key or daemon.key,
        ca=ca or daemon.ca,
        entitlements=(*daemon.entitlements, *parsed.many("allow-insecure-entitlement")),
        labels={**daemon.labels, **labels},
        proxy_network=daemon.proxy_network or parsed.flag("proxy-network"),
    )
    if (daemon.key or daemon.ca) and not daemon.cert:
        raise UsageError("TLS needs a certificate", hints=["give it with --tlscert"])
    return replace(settings, daemon=daemon)


def _serve(
    settings: Settings,
    addresses: Sequence[str],
    *,
    insecure: bool,
    docker: Sequence[str] = (),
    cluster: str = "",
    page: str = "",
) -> int:
    import uvloop

    from pybuild.daemon.process import serve

    parts: list[Callable[[Engine], AbstractAsyncContextManager[None]]] = []
    if cluster:
        from pybuild.cluster.coordinating import coordinating_by

        parts.append(coordinating_by(cluster, settings))
    if page:
        from pybuild.web.serving import page_at

        parts.append(page_at(page))

    @asynccontextmanager
    async def within(engine: Engine) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                await stack.enter_async_context(part(engine))
            yield

    uvloop.run(serve(settings, addresses, insecure=insecure, docker=docker, within=within))
    return 0
