"""The fleet before workers that answer from here: who is in it, who has room, who has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pybuild.cluster import fleet as fleets
from pybuild.cluster import wire
from pybuild.cluster.borrowing import DeltaPlace
from pybuild.cluster.dialing import WorkerAddress, WorkerAddresses, dial
from pybuild.cluster.fleet import Fleet, Worker
from pybuild.cluster.messages import HELLO
from pybuild.cluster.placing import Candidate, Needs
from pybuild.model.platform import LINUX_AMD64, Platform
from pybuild.net.grpc.calls import IncomingCall, unary
from pybuild.net.grpc.status import Code, RpcError
from tests.cluster.here import HereWorker, listening, occupy
from tests.daemon.serving import serving

ANY = Needs(platform=None, deltas=())
Work = Callable[[Fleet], Awaitable[None]]


@asynccontextmanager
async def fleet(*workers: HereWorker) -> AsyncGenerator[Fleet]:
    async with listening(workers) as addresses:
        opened = Fleet(addresses, None)
        await opened.open()
        try:
            yield opened
        finally:
            await opened.close()


def of(opened: Fleet, worker: HereWorker) -> Worker:
    return next(one for one in opened.workers if one.address == worker.address)


def test_workers_that_answer_are_in_it() -> None:
    arm = Platform("linux", "arm64")
    one, two = HereWorker(slots=3), HereWorker(slots=2, platforms=(LINUX_AMD64, arm))

    async def main() -> None:
        async with fleet(one, two) as opened:
            assert [worker.address for worker in opened.workers] == [one.address, two.address]
            assert opened.slots == 5
            assert opened.reasons == {}
            known = of(opened, two)
            occupy(known, 1)
            known.has.add("a")
            assert known.candidate() == Candidate(
                address=two.address, platforms=(LINUX_AMD64, arm), slots=2, busy=1, has={"a"}
            )
            assert not known.is_closed
            assert await known.reach() is known.channel
            assert opened.fits(Needs(platform=arm, deltas=()))
            assert not opened.fits(Needs(platform=arm, deltas=(), avoid=frozenset([two.address])))
            assert not opened.fits(Needs(platform=Platform("linux", "s390x"), deltas=()))
            channel = known.channel
        assert channel.closed.is_set()

    asyncio.run(main())


def test_who_does_not_answer_is_left_out_with_the_reason() -> None:
    async def refuse(request: bytes, call: IncomingCall) -> bytes:
        raise RpcError(Code.PERMISSION_DENIED, "this worker works for others")

    async def babble(request: bytes, call: IncomingCall) -> bytes:
        return wire.write({"a": 1})

    async def main() -> None:
        async with (
            serving({HELLO: unary(refuse)}) as refusing,
            serving({HELLO: unary(babble)}) as babbling,
        ):
            missing = f"unix://{refusing}-missing"
            opened = Fleet([f"unix://{refusing}", f"unix://{babbling}", missing], None)
            await opened.open()
            assert (opened.workers, opened.slots) == ([], 0)
            assert opened.reasons == {
                f"unix://{refusing}": "permission_denied: this worker works for others",
                f"unix://{babbling}": "invalid_argument: Hello: Hello has no 'a'",
                missing: "[Errno 2] No such file or directory",
            }
            async with opened.slot(ANY) as worker:
                assert worker is None
            await opened.close()
        await Fleet([], None).close()

    asyncio.run(main())


def test_members_come_and_go_and_lend_until_they_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = HereWorker(slots=3), HereWorker(slots=2)

    async def main() -> None:
        sizes: list[int] = []
        async with listening([one]) as addresses, asyncio.timeout(60):
            opened = Fleet(addresses, None, sizes.append)
            await opened.open()
            async with listening([two]) as more:
                await opened.update(more)
                assert opened.worker(two.address) is of(opened, two)
                of(opened, two).has.add("a")
                await opened.update([])  # who lists them begins anew
                assert (opened.slots, sizes[-1]) == (5, 5)
                monkeypatch.setattr(fleets, "STAYS_S", 0.0)
                await opened.update([])
                assert (opened.slots, sizes[-1]) == (3, 3)
                assert not opened.fits(replace(ANY, avoid=frozenset(addresses)))
                assert opened.holders("a") == [of(opened, two)]
                await opened.update(more)
                assert opened.slots == 5
                await opened.update([])
            while len(opened.connected) > 1 or opened.reasons:
                await asyncio.sleep(0.001)
            assert opened.worker(two.address) is None
            assert of(opened, one).address in addresses
            await opened.close()

    asyncio.run(main())


def test_a_slot_is_held_and_given_back() -> None:
    worker = HereWorker(slots=2)

    async def main() -> None:
        async with fleet(worker) as opened:
            known = of(opened, worker)
            async with opened.slot(ANY) as first:
                assert first is not None
                assert first[0] is known
                assert known.busy == 1
                with pytest.raises(KeyError):
                    async with opened.slot(ANY):
                        assert known.busy == 2
                        raise KeyError
                assert known.busy == 1
            assert known.busy == 0

    asyncio.run(main())


def test_who_finds_all_busy_waits_for_the_first_slot() -> None:
    worker = HereWorker(slots=1)

    async def main() -> None:
        async with fleet(worker) as opened:
            got: list[Worker] = []

            async def take() -> None:
                async with opened.slot(ANY) as taken:
                    assert taken is not None
                    got.append(taken[0])

            async with opened.slot(ANY):
                tasks = [asyncio.create_task(take()) for _ in range(2)]
                for _ in range(5):
                    await asyncio.sleep(0)
                assert got == []
            await asyncio.gather(*tasks)
            known = of(opened, worker)
            assert got == [known, known]
            assert known.busy == 0

    asyncio.run(main())


def test_who_waits_for_a_worker_that_goes_gets_none() -> None:
    worker, other = HereWorker(slots=1), HereWorker(slots=1)

    async def main() -> None:
        async with fleet(worker, other) as opened:
            known = of(opened, worker)
            needs = Needs(platform=None, deltas=(), avoid=frozenset([other.address]))
            async with opened.slot(needs):

                async def take() -> object:
                    async with opened.slot(needs) as taken:
                        return taken

                task = asyncio.create_task(take())
                await known.channel.close()
                assert await task is None
            assert known.is_closed
            assert [one.address for one in opened.workers] == [other.address]
            assert opened.reasons == {worker.address: "it has gone"}
            assert opened.slots == 1

    asyncio.run(main())


def test_a_delta_is_looked_for_at_idle_workers_first() -> None:
    workers = [HereWorker(), HereWorker(), HereWorker()]

    async def main() -> None:
        async with fleet(*workers) as opened:
            one, two, three = (of(opened, worker) for worker in workers)
            for known in (one, two):
                known.has.add("a")
            occupy(one, 1)
            assert opened.holders("a") == [two, one]
            occupy(one, 0)
            assert opened.holders("a") == sorted((one, two), key=lambda w: w.address)
            assert opened.holders("b") == []
            # A record names who made it: it may still have it.
            assert opened.places("b", f"peer:{three.address}") == [
                DeltaPlace(three.address, three.reach, "b", three.blame)
            ]
            names = [place.name for place in opened.places("a", f"peer:{three.address}")]
            assert names == [*sorted((one.address, two.address)), three.address]
            assert len(opened.places("a", f"peer:{one.address}")) == 2
            assert opened.places("b", "") == []
            assert opened.places("b", "peer:unix:///elsewhere") == []
            await three.channel.close()
            assert opened.places("b", f"peer:{three.address}") == []
            opened.drain(two.address)  # it lends what it has until it ends
            assert two in opened.holders("a")
            assert opened.worker(two.address) is two
            two.blame("it lied")
            assert opened.holders("a") == [one]
            assert opened.worker(two.address) is None

    asyncio.run(main())


def test_an_address_is_dialled_when_first_needed_and_again_when_it_broke() -> None:
    worker = HereWorker()

    async def main() -> None:
        async with listening([worker]):
            known = WorkerAddresses(None)
            address = known.get(worker.address)
            assert isinstance(address, WorkerAddress)
            assert known.get(worker.address) is address
            assert known.get(worker.address + "x") is not address
            assert address.address == worker.address
            first = await address.channel()
            assert await address.channel() is first
            await first.close()
            second = await address.channel()
            assert second is not first
            assert not second.closed.is_set()
            await known.close()
            assert second.closed.is_set()
            await address.close()
            with pytest.raises(OSError, match="No such file"):
                await dial(worker.address + "x", None)

    asyncio.run(main())


def test_a_worker_that_is_drained_or_set_aside_has_no_slots_and_the_solver_hears_of_it() -> None:
    one, two = HereWorker(slots=3), HereWorker(slots=4)

    async def main() -> None:
        sizes: list[int] = []
        async with listening([one, two]) as addresses:
            opened = Fleet(addresses, None, sizes.append)
            await opened.open()
            try:
                assert sizes[-1] == 7
                first, second = of(opened, one), of(opened, two)
                async with opened.slot(Needs(platform=LINUX_AMD64, deltas=(), step="a")) as got:
                    assert got is not None
                    assert got[0] is second
                    assert opened.drain(two.address)
                    assert sizes[-1] == 3
                    assert [step.step for step in second.running] == ["a"]  # which goes on
                assert [cost.address for cost in opened.decisions["a"]] == [
                    two.address,
                    one.address,
                ]
                assert not opened.drain("unix:///none")
                first.blame("it lied")
                assert sizes[-1] == 0
                assert opened.workers == []
                assert {worker.address for worker in opened.connected} == set(addresses)
                first.health.until = 0.0
                second.is_leaving = False
                assert {worker.name for worker in opened.workers} == {"s"}
            finally:
                await opened.close()

    asyncio.run(main())
