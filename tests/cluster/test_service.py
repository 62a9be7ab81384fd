"""A worker's service on a real store, called over a real socket; no step runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pybuild.buildkit.session.bytesmessage import CallBytes
from pybuild.cache.records.layers import keep_layer, layer_facts
from pybuild.cluster import wire
from pybuild.cluster.borrowing import Borrowing, DeltaPlace
from pybuild.cluster.dialing import WorkerAddresses
from pybuild.cluster.messages import (
    BLOB,
    BUILD,
    BUILD_ID,
    DIGEST,
    HELLO,
    LAYER,
    RUN,
    SECRET,
    DigestAnswer,
    DigestQuery,
    Hello,
    LayerAnswer,
    LayerBytesQuery,
    LayerQuery,
    SecretQuery,
    read,
)
from pybuild.cluster.service import WorkerService
from pybuild.cluster.ticket import (
    FORMAT,
    DeltaPlaces,
    Said,
    StepFault,
    StepFaultKind,
    StepOutcome,
    Ticket,
)
from pybuild.cluster.workerbuild import HomeSecrets
from pybuild.engine.engine import Engine
from pybuild.engine.host import native_platform
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.executor.fetch import LayerGone
from pybuild.model.descriptor import Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import Cancelled, UserError
from pybuild.model.events import PULLING
from pybuild.model.layerfacts import LENT_PREFIX, LayerFacts, WrittenLayer
from pybuild.model.ops import Device, ExecOp, HostMount, Mount, StepSettings
from pybuild.model.package import VERSION
from pybuild.model.platform import LINUX_AMD64
from pybuild.model.resources import Resources
from pybuild.model.selection import Selection
from pybuild.net.grpc.calls import Handler, IncomingCall, unary
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.server import GrpcServer
from pybuild.net.grpc.status import Code, RpcError
from tests.daemon.serving import channel, serving

ROOT = Mount(target="/", input=0, output=True)
STEP = ExecOp(args=("true",), env=(), cwd="/", mounts=(ROOT,), platform=LINUX_AMD64)
TICKET = Ticket(run="r", op=STEP, inputs=(("a",),), deltas=(DeltaPlaces(name="a"),))
BUILD_1 = Metadata({BUILD_ID: "1"})
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DATA = bytes(range(256)) * 5000  # more than a piece
DIFF_ID = Digest.of(b"a tar")


class Place:
    """A worker's engine, and the channel to its service."""

    def __init__(self, engine: Engine, channel: Channel) -> None:
        self.engine, self.channel = engine, channel

    async def call(self, method: str, query: object, build: str = "1") -> Any:
        """Return the answer, or the code and message of an error."""
        metadata = Metadata({BUILD_ID: build})
        data = query if isinstance(query, bytes) else wire.write(query)
        try:
            return await self.channel.unary(method, data, metadata=metadata)
        except RpcError as error:
            return error.code, error.message

    @asynccontextmanager
    async def build(self, handlers: dict[str, Handler]) -> AsyncGenerator[None]:
        """Have build 1 open, whose coordinator answers by *handlers*."""
        async with self.channel.stream(BUILD, metadata=BUILD_1) as call:
            task = asyncio.create_task(GrpcServer(handlers).serve_stream(CallBytes(call)))
            await call.headers()
            yield
            await call.half_close()
            await task

    async def outcome(self, ticket: Ticket) -> StepOutcome:
        """Return the outcome of a step of build 1, of which nothing else is said but that its inputs come."""
        async with self.channel.stream(RUN, metadata=BUILD_1) as call:
            await call.send(wire.write(ticket))
            await call.half_close()
            heard: list[Said] = []
            while (message := await call.receive()) is not None:
                heard.append(read(Said, message))
        *first, last = (one for one in heard if getattr(one.event, "id", "") != PULLING)
        assert first == [Said(epoch=0), Said(epoch=0, begun=True)]
        assert last.outcome is not None
        return replace(last.outcome, seconds=0.0)

    def keep_blob(self, delta: str, **facts: Any) -> Descriptor:
        """Have a blob of a delta that is not there itself."""
        digest = self.engine.store.blobs.put(DATA)
        blob = Descriptor(ZSTD, digest, len(DATA))
        written = LayerFacts(diff_id=DIFF_ID, descriptor=blob, **facts)
        keep_layer(self.engine.store.records, delta, written)
        return blob


def run(root: Path, work: Callable[[Place], Awaitable[None]], *, trusts: bool = True) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(Engine(Settings(root=str(root))))
            peers = WorkerAddresses(None)
            service = WorkerService(
                engine, 3, peers, lambda peer, _: trusts and peer.kind == "unix"
            )
            opened = await stack.enter_async_context(channel(service.handlers()))
            await work(Place(engine, opened))

    asyncio.run(main())


def test_it_says_what_it_is(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        hello = read(Hello, await place.call(HELLO, Hello()))
        assert (hello.format, hello.version, hello.slots) == (FORMAT, VERSION, 3)
        assert hello.platforms[0] == native_platform()
        code, message = await place.call(HELLO, Hello(format=1))
        assert code is Code.FAILED_PRECONDITION
        assert message == f"this worker speaks format {FORMAT} (pybuild {VERSION}), not 1"
        code, message = await place.call(HELLO, b"{")
        assert code is Code.INVALID_ARGUMENT
        assert message.startswith("Hello: no JSON: ")

    run(tmp_path, work)


@pytest.mark.parametrize("method", [HELLO, BUILD, RUN, DIGEST, LAYER, BLOB])
def test_it_answers_nothing_to_strangers(tmp_path: Path, method: str) -> None:
    async def work(place: Place) -> None:
        answer = await place.call(method, Hello())
        assert answer == (Code.PERMISSION_DENIED, "this worker works for others")

    run(tmp_path, work, trusts=False)


def test_a_step_needs_a_build_that_is_open(tmp_path: Path) -> None:
    closed = (Code.NOT_FOUND, "this build is not open here")
    query = DigestQuery(deltas=("a",), selection=Selection(path="/"))

    async def work(place: Place) -> None:
        assert await place.call(RUN, TICKET) == closed
        async with place.build({}):
            assert await place.call(RUN, TICKET, build="2") == closed
            assert await place.call(DIGEST, query, build="2") == closed
            again = await place.call(BUILD, b"")
            assert again == (Code.ALREADY_EXISTS, "build 1 is open")
            later = await place.call(RUN, replace(TICKET, format=1))
            assert later == (Code.FAILED_PRECONDITION, f"tickets of format {FORMAT} are read here")
            code, _ = await place.call(RUN, b"")
            assert code is Code.INVALID_ARGUMENT
        while await place.call(RUN, TICKET) != closed:  # its end is on its way
            await asyncio.sleep(0)

    run(tmp_path, work)


@pytest.mark.parametrize(
    "op",
    [
        replace(STEP, host_mounts=(HostMount(source="/a", target="/a"),)),
        replace(STEP, devices=(Device(name="a"),)),
        replace(STEP, settings=StepSettings(resources=Resources(parent="/a"))),
    ],
)
def test_a_step_gets_nothing_of_the_machine(tmp_path: Path, op: ExecOp) -> None:
    text = "a step with directories, devices or cgroups of a machine runs on no worker"

    async def work(place: Place) -> None:
        async with place.build({}):
            outcome = await place.outcome(replace(TICKET, op=op))
            assert outcome.fault == StepFault(kind=StepFaultKind.USER, message=text)

    run(tmp_path, work)


def test_a_ticket_describes_all_its_inputs(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        async with place.build({}):
            outcome = await place.outcome(replace(TICKET, inputs=(("a",), ("a", "b"))))
            text = "a ticket names inputs that it does not describe"
            assert outcome.fault == StepFault(kind=StepFaultKind.INTERNAL, message=text)
            outside = replace(TICKET, inputs=(("../x",),), deltas=(DeltaPlaces(name="../x"),))
            outcome = await place.outcome(outside)
            text = "ValueError: invalid snapshot id '../x'"
            assert outcome.fault == StepFault(kind=StepFaultKind.INTERNAL, message=text)

    run(tmp_path, work)


def test_a_delta_is_looked_for_where_the_ticket_says_and_at_home(tmp_path: Path) -> None:
    async def none(request: bytes, call: IncomingCall) -> bytes:
        raise RpcError(Code.NOT_FOUND, "there is none")

    async def work(place: Place) -> None:
        async with serving({}) as elsewhere, place.build({LAYER: unary(none)}):
            places = (f"unix://{elsewhere}-x", f"unix://{elsewhere}")
            ticket = replace(TICKET, deltas=(DeltaPlaces(name="a", places=places),))
            outcome = await place.outcome(ticket)
            assert outcome.deltas == ()
            fault = outcome.fault
            assert fault is not None
            assert fault.kind is StepFaultKind.GONE
            assert fault.delta == "a"
            first, second, home = fault.message.split("; ")
            assert first == f"unix://{elsewhere}-x: [Errno 2] No such file or directory"
            assert second.startswith(f"unix://{elsewhere}: unimplemented: ")
            assert home == "the coordinator: not_found: there is none"
            facts = layer_facts(place.engine.store.records, "a")
            assert facts == LayerFacts(layout=LENT_PREFIX, cache="the cluster")

    run(tmp_path, work)


def test_a_tree_that_is_nowhere_has_no_digest(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        async with place.build({}):
            query = DigestQuery(deltas=("a",), selection=Selection(path="/"))
            answer = read(DigestAnswer, await place.call(DIGEST, query))
            assert answer.content is None
            assert answer.fault is not None
            assert "a" in answer.fault.message

    run(tmp_path, work)


def test_its_layers_are_lent_by_their_names(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        blob = place.keep_blob("a", layout=LENT_PREFIX + "them")
        query = LayerQuery(delta="a", compression="zstd", level=1)
        answer = read(LayerAnswer, await place.call(LAYER, query))
        assert answer == LayerAnswer(
            diff_id=DIFF_ID, media_type=ZSTD, digest=blob.digest, size=len(DATA)
        )
        missing = (Code.NOT_FOUND, "there is no 'b' here")
        assert await place.call(LAYER, replace(query, delta="b")) == missing
        assert await place.call(LAYER, replace(query, delta="../a")) == (
            Code.NOT_FOUND, "there is no '../a' here",
        )  # fmt: skip
        wrong = (Code.INVALID_ARGUMENT, "no compression 'estargz'")
        assert await place.call(LAYER, replace(query, compression="estargz")) == wrong

    run(tmp_path, work)


def test_the_bytes_of_a_layer_are_sent_to_who_knows_its_delta(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        blob = place.keep_blob("a")
        other = Digest.of(b"other")
        query = LayerBytesQuery(delta="a", digest=blob.digest)
        async with place.channel.stream(BLOB) as call:
            await call.send(wire.write(query))
            await call.half_close()
            pieces: list[bytes] = []
            while (piece := await call.receive()) is not None:
                pieces.append(piece)
        assert b"".join(pieces) == DATA
        assert [len(piece) for piece in pieces] == [1 << 20, len(DATA) - (1 << 20)]
        no_layer = (Code.NOT_FOUND, f"{other} is no layer of a")
        assert await place.call(BLOB, replace(query, digest=other)) == no_layer
        unknown = (Code.NOT_FOUND, "there is no 'b' here")
        assert await place.call(BLOB, replace(query, delta="b")) == unknown
        # What was written of it in another way is its layer, too.
        facts = layer_facts(place.engine.store.records, "a")
        assert facts is not None
        written = WrittenLayer(Descriptor(ZSTD, other, 5))
        keep_layer(place.engine.store.records, "a", replace(facts, blobs={"zstd-3": written}))
        gone = (Code.NOT_FOUND, f"{other} is gone")
        assert await place.call(BLOB, replace(query, digest=other)) == gone

    run(tmp_path, work)


def test_layers_are_borrowed_and_compared(tmp_path: Path) -> None:
    async def work(place: Place) -> None:
        blob = place.keep_blob("theirs", layout=LENT_PREFIX + "them")

        async def connect() -> Channel:
            return place.channel

        async def refuse() -> Channel:
            raise OSError("nobody is there")

        events: list[Any] = []
        places = [DeltaPlace("one", refuse, "a"), DeltaPlace("two", connect, "theirs")]
        async with Engine(Settings(root=str(tmp_path / "other"))) as engine:
            borrowing = Borrowing(engine.store, lambda delta: places if delta == "a" else [])
            assert borrowing.have("a")
            assert not borrowing.have("b")
            assert await borrowing.make("a", "zstd", 1) == (DIFF_ID, blob)
            with pytest.raises(LayerGone) as caught:
                await borrowing.make("a", "lzma", 1)
            assert caught.value.delta == "a"
            assert caught.value.message == (
                "one: nobody is there; two: invalid_argument: no compression 'lzma'"
            )
            with pytest.raises(LayerGone, match="^no store that can be reached has b$"):
                await borrowing.make("b", "zstd", 1)
            step = InternalStep(DIFF_ID, events.append, engine.clock)
            await borrowing.bring("a", blob, step)
            assert [(e.id, e.current, e.total, e.done) for e in events] == [
                ("from two", 1 << 20, len(DATA), False),
                ("from two", len(DATA), len(DATA), True),
            ]
            assert engine.store.blobs.read(blob.digest) == DATA
            with pytest.raises(LayerGone, match="^no store that can be reached has b$"):
                await borrowing.bring("b", blob, step)
            longer = replace(blob, digest=Digest.of(b"x"))
            with pytest.raises(LayerGone) as caught:
                await borrowing.bring("a", longer, step)
            assert caught.value.message.startswith("one: nobody is there; two: not_found: ")

    run(tmp_path, work)


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (Code.NOT_FOUND, KeyError, "'key'"),
        (Code.UNAVAILABLE, Cancelled, "secret key: the coordinator has gone"),
        (Code.PERMISSION_DENIED, UserError, "secret key: so"),
    ],
)
def test_a_secret_is_asked_for_at_home(code: Code, kind: type[Exception], text: str) -> None:
    asked: list[bytes] = []

    async def secret(request: bytes, call: IncomingCall) -> bytes:
        asked.append(request)
        if len(asked) > 1:
            raise RpcError(code, "so")
        return b"s3cr3t"

    async def main() -> None:
        async with channel({SECRET: unary(secret)}) as home:
            secrets = HomeSecrets(home, asyncio.get_running_loop())
            assert (len(secrets), list(secrets)) == (0, [])
            value = await asyncio.to_thread(lambda: secrets["key"])
            assert value() == b"s3cr3t"
            with pytest.raises(kind) as caught:
                await asyncio.to_thread(lambda: secrets["key"])
            assert str(caught.value) == text
        assert asked == [wire.write(SecretQuery(id="key"))] * 2

    asyncio.run(main())
