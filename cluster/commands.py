"""``pybuild worker`` and ``pybuild cluster``."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial

from pybuild.cluster import control
from pybuild.cluster.certificates import Certificates, make_certificates
from pybuild.cluster.coordinating import coordinating
from pybuild.cluster.local import LocalCluster
from pybuild.cluster.members import SCHEDULER, Members, has_engine, host_and_port, require_engine
from pybuild.cluster.process import serve_worker
from pybuild.cluster.roles import Role
from pybuild.commandline.parser import Parsed
from pybuild.daemon.process import default_address, serve
from pybuild.engine.host import native_platform, platforms_from
from pybuild.engine.settings import load_settings
from pybuild.executor.runnable import runnable
from pybuild.model.errors import UsageError
from pybuild.model.listing import table
from pybuild.model.platform import Platform

_MOST_DAYS = 3650


def worker(parsed: Parsed) -> int:
    """Run steps for coordinators until a signal stops us."""
    import uvloop

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    addresses = parsed.many("addr")
    if not addresses:
        raise UsageError("a worker needs an address", hints=["give it with --addr unix://PATH"])
    slots = _count(parsed, "slots", len(os.sched_getaffinity(0)))
    certificates = _certificates(parsed)
    scheduler, name = _scheduler(parsed, certificates), parsed.one("advertise", addresses[0])
    given = slots, certificates, scheduler, name, _platforms(parsed)
    until_eof = parsed.flag("until-eof")
    uvloop.run(serve_worker(settings, addresses, *given, until_eof=until_eof))
    return 0


def scheduler(parsed: Parsed) -> int:
    """Run the scheduler of a cluster until a signal stops it."""
    require_engine()
    certificates = _certificates(parsed)
    place = _tcp(parsed, "addr", "tcp://127.0.0.1:8786")
    if not certificates.words() and not place.startswith(("127.0.0.1:", "[::1]:")):
        raise UsageError(
            "a scheduler that other machines reach needs certificates",
            hints=["give --tlscacert, --tlscert and --tlskey"],
        )
    words = ("--addr", "tcp://" + place, *certificates.words())
    os.execv(sys.executable, [sys.executable, "-P", "-m", SCHEDULER, *words])


def up(parsed: Parsed) -> int:
    """Serve builds whose steps run on workers, some of which we may start."""
    import uvloop

    settings = load_settings(parsed.one("config"), parsed.one("root"))
    local = _count(parsed, "local", 0)
    given = parsed.many("worker")
    certificates = _certificates(parsed)
    scheduler = _scheduler(parsed, certificates)
    engine = parsed.one("engine", "dask" if has_engine() else "none")
    if engine not in ("dask", "none"):
        raise UsageError(f"invalid --engine: {engine}: expected dask or none")
    if engine == "dask":
        require_engine()
    if not local and not given and not scheduler:
        raise UsageError(
            "a cluster needs workers",
            hints=["--local 2 starts two here", "--worker or --scheduler names those that run"],
        )
    slots = _count(parsed, "slots", 2)
    addresses, config = parsed.many("addr"), parsed.one("config")
    addresses = addresses or [default_address(settings.root)]
    members = Members(given, certificates, scheduler)
    own: LocalCluster | None = None
    if local:
        own = LocalCluster(settings.root, config, local, slots, has_engine=engine == "dask")
    within = partial(coordinating, members, own)
    uvloop.run(serve(settings, addresses, insecure=False, within=within))
    return 0


def certs(parsed: Parsed) -> int:
    """Make certificates of workers and coordinators, and their authority."""
    members = [(role, host) for role in Role for host in parsed.many(role)]
    if not members:
        raise UsageError(
            "a certificate is for somebody",
            hints=["--coordinator HOST and --worker HOST name the machines, as often as needed"],
        )
    for _, host in members:
        if not host or "/" in host or host.startswith((".", "-")):
            raise UsageError(f'invalid host "{host}"')
    days = _count(parsed, "days", 365)
    if days > _MOST_DAYS:
        raise UsageError(f"invalid --days: {days}: expected {_MOST_DAYS} at most")
    for paths in make_certificates(parsed.one("output", "."), members, days):
        sys.stdout.write(" ".join(paths) + "\n")
    return 0


def ls(parsed: Parsed) -> int:
    """List the workers of the coordinator here."""
    rows = [("WORKER", "STATE", "STEPS", "SLOTS", "PLATFORM", "VERSION")]
    for one in asyncio.run(control.list_workers(_root(parsed))).workers:
        platform = one.platforms[0] if one.platforms else ""
        numbers = str(sum(not step.is_heard for step in one.steps)), str(one.slots)
        rows.append((one.name, one.state, *numbers, platform, one.version))
    sys.stdout.write(table(rows))
    return 0


def top(parsed: Parsed) -> int:
    """List the steps that run, the longest first."""
    fleet = asyncio.run(control.list_workers(_root(parsed)))
    running = [(one.name, step) for one in fleet.workers for step in one.steps]
    running.sort(key=lambda pair: -pair[1].seconds)
    rows = [("WORKER", "SECONDS", "NOW", "STEP")]
    for name, step in running:
        shared = " (of another coordinator, too)" if step.is_heard else ""
        now = step.pause or "running"
        rows.append((name, f"{step.seconds:.1f}", now, step.step + shared))
    sys.stdout.write(table(rows))
    return 0


def why(parsed: Parsed) -> int:
    """Show what the placer weighed for a step."""
    sys.stdout.write(asyncio.run(control.why(_root(parsed), parsed.positionals[0])))
    return 0


def drain(parsed: Parsed) -> int:
    """Give a worker no more steps."""
    sys.stdout.write(asyncio.run(control.drain(_root(parsed), parsed.positionals[0])))
    return 0


def _platforms(parsed: Parsed) -> tuple[Platform, ...]:
    """Return the platforms that a worker is to run steps of; none: all that it can."""
    platforms = platforms_from(parsed.one("platform"))
    able = runnable(native_platform())
    for platform in platforms:
        if platform not in able:
            raise UsageError(
                f"invalid --platform: this machine runs no programs for {platform}",
                hints=[f"it runs {', '.join(map(str, able))}"],
            )
    return platforms


def _root(parsed: Parsed) -> str:
    return load_settings(parsed.one("config"), parsed.one("root")).root


def _certificates(parsed: Parsed) -> Certificates:
    return Certificates(
        ca=parsed.one("tlscacert"), cert=parsed.one("tlscert"), key=parsed.one("tlskey")
    )


def _scheduler(parsed: Parsed, certificates: Certificates) -> str:
    """Return the address of the scheduler, as the engine has it; empty: none is given."""
    if not parsed.one("scheduler"):
        return ""
    require_engine()
    return ("tls://" if certificates.words() else "tcp://") + _tcp(parsed, "scheduler", "")


def _tcp(parsed: Parsed, name: str, default: str) -> str:
    """Return the host and port of an address."""
    address = parsed.one(name, default)
    try:
        return host_and_port(address)
    except ValueError:
        raise UsageError(f"invalid --{name}: {address}: expected tcp://HOST:PORT") from None


def _count(parsed: Parsed, name: str, default: int) -> int:
    text = parsed.one(name, str(default))
    if not text.isdecimal() or (name in parsed.values and int(text) == 0):
        raise UsageError(f"invalid --{name}: {text}: expected a number from 1 on")
    return int(text)
