"""The guard of a process that strangers may reach through Dask: no pickle but the exact names that claims
are made of, no call but the fixed list that claims need, no program started.

Dask unpickles what clients send, and has calls that run or import what they are given. Here an audit hook
refuses every global that a pickle names outside of the list, whoever unpickles; it cannot be taken out
again. The lists are what claims of every kind of end were seen to use.
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping
from typing import Any

from distributed import Scheduler
from distributed.core import Server

from pybuild.cluster.dask.roles import for_roles
from pybuild.cluster.roles import Role

CLAIM_PICKLES = frozenset(
    (
        ("dask._expr", "Expr._reconstruct"),
        ("dask._expr", "LLGExpr"),
        ("dask._task_spec", "Task"),
        ("pybuild.cluster.dask.claims", "claim"),
    )
)
"""The globals that pickles may name in a scheduler and an agent: those of a claim."""

ANSWER_PICKLES = frozenset(
    (
        ("builtins", "int"),
        ("builtins", "str"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("distributed.core", "Status"),
        ("distributed.scheduler", "KilledWorker"),
        ("distributed.scheduler", "WorkerState"),
    )
)
"""Those in a dispatcher: of a claim's end, and of the news that its agent died."""

SCHEDULER_CALLS = frozenset(
    (
        *("identity", "claim_books", "claim_place"),
        *("register-client", "heartbeat-client", "close-client", "subscribe-topic"),
        *("update-graph", "client-releases-keys", "gather"),
        *("register-worker", "unregister", "heartbeat_worker", "worker-status-change"),
        *("keep-alive", "log-event", "release-worker-data", "task-finished", "task-erred"),
    )
)
WORKER_CALLS = frozenset(
    ("identity", "cancel-compute", "compute-task", "free-keys", "get_data", "remove-worker")
)

_CALLERS = {"register-client": Role.COORDINATOR, "register-worker": Role.WORKER}
"""Those who may open the connections by which claims are made, and answered."""

_PROGRAMS = frozenset(
    (
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "subprocess.Popen",
        "pty.spawn",
    )
)


class ForeignToClaims(Exception):
    """A demand on a guarded process that no claim has."""


def watch_pickles(allowed: frozenset[tuple[str, str]]) -> None:
    """Refuse from here on, in all of this process and for good, pickles of other names, and programs."""
    _ = platform.uname().processor  # it runs a program, once; Dask says it to the scheduler

    def judge(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            if arguments[:2] not in allowed:
                raise ForeignToClaims(f"a pickle names {arguments[0]}.{arguments[1]}")
        elif event in _PROGRAMS:
            raise ForeignToClaims(f"{event} in a process of claims")

    sys.addaudithook(judge)


def limit(server: Server) -> None:
    """Have *server* answer only the calls that claims need, and watch this process's pickles.

    To be done before it listens: a preload comes after that, which is why there is none.
    """
    calls = SCHEDULER_CALLS if isinstance(server, Scheduler) else WORKER_CALLS
    server.handlers = _Only(calls, server.handlers)
    server.stream_handlers = _Only(calls, server.stream_handlers)
    if isinstance(server, Scheduler):
        books = _Books(server)
        server.handlers.update(claim_books=books.taken, claim_place=books.place)
        for name, role in _CALLERS.items():
            server.handlers[name] = for_roles(server.handlers[name], role)
    watch_pickles(CLAIM_PICKLES)


class _Only(dict[str, Callable[..., Any]]):
    """Handlers of the calls that are on a list; extensions that start later add no others."""

    def __init__(self, calls: frozenset[str], handlers: Mapping[str, Callable[..., Any]]) -> None:
        super().__init__()
        self._calls = calls
        self.update(handlers)

    def __setitem__(self, name: str, handler: Callable[..., Any]) -> None:
        if name in self._calls:
            super().__setitem__(name, handler)

    def update(self, *others: Any, **more: Any) -> None:
        for name, handler in dict(*others, **more).items():
            self[name] = handler


class _Books:
    """Two calls of our own: who are the agents, and where is a claim."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    async def taken(self) -> dict[str, int]:
        """Return the slots of each agent that claims have taken, by its name."""
        workers = self._scheduler.workers.values()
        return {str(worker.name): len(worker.processing) for worker in workers}

    async def place(self, key: str) -> str:
        """Return the name of the agent that has a claim; empty: none has it now."""
        task = self._scheduler.tasks.get(key)
        worker = None if task is None else task.processing_on
        return "" if worker is None else str(worker.name)
