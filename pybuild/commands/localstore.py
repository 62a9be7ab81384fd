"""Work on the store that a command line names (`pybuild.engine.localstore`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pybuild.cache.store import Store
from pybuild.commandline.parser import Parsed
from pybuild.engine import localstore
from pybuild.engine.engine import Engine
from pybuild.engine.settings import Settings, load_settings

T = TypeVar("T")


def settings_of(parsed: Parsed) -> Settings:
    """Return the settings of the store that the options, the environment or the file name."""
    return load_settings(parsed.one("config"), parsed.one("root"))


def with_engine(
    parsed: Parsed, work: Callable[[Engine], Awaitable[T]], *, to_read: bool = False
) -> T:
    """Run *work* with an event loop and an engine of its own."""
    return localstore.with_engine(settings_of(parsed), work, to_read=to_read)


def with_store(parsed: Parsed, work: Callable[[Store], T], *, to_read: bool = False) -> T:
    """Run *work* in a thread, as `with_engine`."""
    return localstore.with_store(settings_of(parsed), work, to_read=to_read)
