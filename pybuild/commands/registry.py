"""``pybuild registry``: a registry out of the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from pybuild.cache.store import Store
from pybuild.config import load_settings
from pybuild.engine import SystemClock
from pybuild.model.errors import UsageError
from pybuild.options import Parsed
from pybuild.registry.server.hosting import Hosting
from pybuild.registry.server.serving import listening, until_told
from pybuild.registry.server.settings import ServerSettings

_DEFAULT_ADDRESS = "127.0.0.1:5000"


def main(parsed: Parsed) -> int:
    """Run one of the subcommands."""
    word, *rest = parsed.positionals
    commands: dict[str, Callable[[Parsed, Sequence[str]], int]] = {"serve": _serve}
    command = commands.get(word)
    if command is None:
        raise UsageError(f'unknown command "registry {word}"', hints=["pybuild registry --help"])
    return command(parsed, rest)


def _serve(parsed: Parsed, rest: Sequence[str]) -> int:
    settings = load_settings(parsed.one("config"), parsed.one("root"))
    addresses = parsed.many("addr") or [_DEFAULT_ADDRESS]
    with Store.open(settings.root, SystemClock(), warn=_warn) as store:
        asyncio.run(_run(store, ServerSettings(), addresses))
    return 0


async def _run(store: Store, settings: ServerSettings, addresses: Sequence[str]) -> None:
    async with listening(Hosting(store, settings), addresses) as taken:
        for address in taken:
            sys.stderr.write(f"registry: serving {store.root} on {address}\n")
        await until_told()


def _warn(message: str) -> None:
    sys.stderr.write(f"warning: {message}\n")
