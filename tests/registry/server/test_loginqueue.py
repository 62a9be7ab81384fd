"""Guesses of passwords wait for each other: logins of others are checked in between, and nobody is remembered for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pybuild.registry.server.loginqueue import LoginQueue, LoginQueueFull

Order = list[str]


def crowd(*groups: tuple[int, str, Callable[[int], str]]) -> Order:
    """Let so many of each machine with such users queue for one place; return who was checked, in order.

    Those who were sent away are in it with a ``-`` before their names.
    """
    order: Order = []

    async def one(queue: LoginQueue, machine: str, user: str) -> None:
        try:
            async with queue.turn(machine, user):
                order.append(f"{machine}/{user}")
                await asyncio.sleep(0)
        except LoginQueueFull:
            order.append(f"-{machine}/{user}")

    async def work() -> None:
        queue = LoginQueue(1)
        tasks = [
            asyncio.create_task(one(queue, machine, user(number)))
            for count, machine, user in groups
            for number in range(count)
        ]
        await asyncio.gather(*tasks)
        assert await has_one_place(queue)

    asyncio.run(asyncio.wait_for(work(), 30))
    return order


async def has_one_place(queue: LoginQueue) -> bool:
    """Return whether one may enter at once, and a second one only after the first."""

    async def enter() -> None:
        async with queue.turn("m", "u"):
            pass

    first = queue.turn("m", "u")
    entering = asyncio.ensure_future(first.__aenter__())
    await asyncio.sleep(0)
    is_free = entering.done()
    await entering
    second = asyncio.create_task(enter())
    await asyncio.sleep(0)
    is_full = not second.done()
    await first.__aexit__(None, None, None)
    await second
    return is_free and is_full


def place(order: Order, name: str) -> int:
    """Return how many were checked before *name*."""
    return [entry for entry in order if not entry.startswith("-")].index(name)


def test_another_machine_waits_for_one_check() -> None:
    order = crowd((500, "evil", lambda _: "ann"), (1, "good", lambda _: "ann"))
    assert place(order, "good/ann") <= 2


@pytest.mark.slow
@pytest.mark.parametrize("names", ["one", "many"])
def test_another_user_of_a_proxy_waits_for_few(names: str) -> None:
    def guessed(number: int) -> str:
        return "admin" if names == "one" else f"user{number}"

    tries = [crowd((500, "proxy", guessed), (1, "proxy", lambda _: "ann")) for _ in range(20)]
    let_in = [order for order in tries if "proxy/ann" in order]
    assert len(let_in) >= (18 if names == "one" else 5)
    assert all(place(order, "proxy/ann") <= 34 for order in let_in)
    if names == "one":
        assert sum(place(order, "proxy/ann") <= 2 for order in let_in) >= 18


def test_machines_share_all_places() -> None:
    many: list[tuple[int, str, Callable[[int], str]]] = []
    for number in range(40):
        many.append((32, f"m{number}", str))
    order = crowd(*many, (1, "good", lambda _: "ann"))
    assert place(order, "good/ann") <= 45
    assert sum(entry.startswith("-") for entry in order) == 40 * 32 + 1 - 1024 - 1


def test_who_leaves_gives_the_turn_on() -> None:
    async def work() -> None:
        queue = LoginQueue(1)

        async def once() -> None:
            async with queue.turn("m", "u"):
                await asyncio.sleep(0)

        first = asyncio.create_task(once())
        rest = [asyncio.create_task(once()) for _ in range(5)]
        await asyncio.sleep(0)
        rest[0].cancel()
        await first
        rest[1].cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        assert await has_one_place(queue)

    asyncio.run(asyncio.wait_for(work(), 30))
