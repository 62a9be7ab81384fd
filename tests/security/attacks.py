"""The attacks of one client of a build server on another, by name, and what they have in common.

Each attack is a function of a stage and its two clients, ``a`` whom something belongs to and ``b`` who is
after it, or who would slip something to the other. It raises AssertionError when that works.
"""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Awaitable, Callable

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from tests.daemon.buildsites import CONTROL
from tests.security.tenants import BRIDGE, Outcome, Stage, Tenant, marker

Attack = Callable[[Stage, Tenant, Tenant], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}
LOGIN = ("ann", "hunter2-hunter2")


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.removeprefix("_")] = function
    return function


def hears_nothing(tenant: Tenant, *secrets: str) -> None:
    for secret in secrets:
        assert secret.encode() not in tenant.seen, f"{tenant.name} has got {secret}"


def tarred(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def private_image(stage: Stage, text: str) -> tuple[str, str]:
    """Have the hub serve an image with *text* in it for Ann alone; return repository and digest."""
    repository = f"acme/{marker('r')}"
    digest = stage.hub.image(repository, "1", tarred(secret=text), Env=[f"CONFIG={text}"])
    stage.hub.passwords[repository] = ":".join(LOGIN)
    return repository, digest


async def poisons(
    stage: Stage, a: Tenant, b: Tenant, tag: str, dockerfile: str, mode: str = ""
) -> Outcome:
    """Let *b* give a bad tree the name *tag*; *a* must not get it from *dockerfile*."""
    bad = marker("poison")
    made = await b.build("FROM scratch\nCOPY f /poison\n", {"f": bad}, tag=tag)
    assert not made.error, made.error
    got = await a.build(dockerfile, mode=mode)
    assert bad not in "".join(got.files.values())
    hears_nothing(a, bad)
    return got


async def parked(tenant: Tenant, questions: dict[str, bytes]) -> None:
    """Begin a build that the client drives, and ask the gateway."""
    ref = marker("ref")
    async with ClientSession(file_sync({})).open(tenant.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(tenant.ask(CONTROL + "Solve", request))
        for method, question in questions.items():
            await tenant.ask(BRIDGE + method.partition("#")[0], question, ref=ref)
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await tenant.ask(BRIDGE + "Return", end, ref=ref)
        await building
