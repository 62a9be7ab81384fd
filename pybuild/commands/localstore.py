"""Work on the store that a command line names (`pybuild.engine.localstore`).

The engine and its event loop are imported by those who use them: what looks at files alone is quick without.
"""

from __future__ import annotations

import os

from pybuild.cache.store import Store
from pybuild.engine.host import SystemClock
from pybuild.engine.paths import config_file, default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeVar

    from pybuild.commandline.parser import Parsed
    from pybuild.engine.engine import Engine
    from pybuild.engine.settings import Settings
    from pybuild.executor.network import DnsSettings

    T = TypeVar("T")


def settings_of(parsed: Parsed) -> Settings:
    """Return the settings of the store that the options, the environment or the file name."""
    from pybuild.engine.settings import load_settings

    return load_settings(parsed.one("config"), parsed.one("root"))


def root_of(parsed: Parsed) -> str:
    """Return the directory of the store that they name; most machines have no such file to read.

    Raises:
        UsageError: the file is wrong.
    """
    if config_file(parsed.one("config")) is not None:
        return settings_of(parsed).root
    given = parsed.one("root")
    return os.path.abspath(given) if given else default_root()


def dns_of(parsed: Parsed) -> DnsSettings | None:
    """Return the DNS settings of the configuration file; None: there is no such file."""
    return None if config_file(parsed.one("config")) is None else settings_of(parsed).dns


def open_store(parsed: Parsed, *, to_read: bool = False) -> Store:
    """Return the store that the options, the environment or the configuration file name.

    Args:
        to_read: nothing in it is to change; see `Store.open`.
    """
    return Store.open(root_of(parsed), SystemClock(), to_read=to_read, brief=True)


def with_engine(
    parsed: Parsed, work: Callable[[Engine], Awaitable[T]], *, to_read: bool = False
) -> T:
    """Run *work* with an event loop and an engine of its own."""
    from pybuild.engine import localstore

    return localstore.with_engine(settings_of(parsed), work, to_read=to_read)


def with_store(parsed: Parsed, work: Callable[[Store], T], *, to_read: bool = False) -> T:
    """Run *work* in a thread, as `with_engine`."""
    from pybuild.engine import localstore

    return localstore.with_store(settings_of(parsed), work, to_read=to_read)
