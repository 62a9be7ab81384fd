"""``pybuild cluster ls``, ``top``, ``why`` and ``drain`` before a coordinator's own door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pybuild.cluster import commands, control
from pybuild.cluster.control import controlled
from pybuild.cluster.fleet import Fleet
from pybuild.cluster.placing import Needs
from pybuild.cluster.table import COMMANDS
from pybuild.commandline.parser import Parsed, parse
from pybuild.model.errors import EnvironmentFault, UserError
from pybuild.model.platform import LINUX_AMD64
from tests.cluster.here import HereWorker, listening

OPTIONS = {command.name: command.options for command in COMMANDS}
STEP = "[build 2/3] RUN make"


def test_a_coordinator_says_who_runs_what_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = HereWorker(slots=3), HereWorker(slots=2)
    root = str(tmp_path / "store")

    async def said(run: Callable[[Parsed], int], *words: str) -> str:
        parsed = parse(("--root", root, *words), OPTIONS["cluster ls"])
        assert await asyncio.to_thread(run, parsed) == 0
        return capsys.readouterr().out

    async def main() -> None:
        async with listening([one, two]) as addresses:
            gone = f"unix://{tmp_path}/gone.sock"
            fleet = Fleet([*addresses, gone], None)
            await fleet.open()
            try:
                needs = Needs(platform=LINUX_AMD64, deltas=("base",), step=STEP)
                async with controlled(fleet, root), fleet.slot(needs) as got:
                    assert got is not None
                    worker, slot = got
                    lines = (await said(commands.ls)).splitlines()
                    assert lines[0].split() == [
                        "WORKER",
                        "STATE",
                        "STEPS",
                        "SLOTS",
                        "PLATFORM",
                        "VERSION",
                    ]
                    rows = sorted(line.split() for line in lines[1:] if "away" not in line)
                    assert rows == [
                        ["s", "ready", "0", "2", "linux/amd64", "1"],
                        ["s", "ready", "1", "3", "linux/amd64", "1"],
                    ]
                    assert any(gone in line and "away: " in line for line in lines)
                    top = (await said(commands.top)).splitlines()
                    assert top[1].split(maxsplit=3)[::2] == ["s", "running"]
                    assert top[1].endswith(STEP)
                    slot.pause = "waiting for a slot"
                    top = (await said(commands.top)).splitlines()
                    assert top[1].split(maxsplit=2)[2] == f"waiting for a slot   {STEP}"
                    why = await said(commands.why, "RUN make")
                    assert why.splitlines()[0] == STEP
                    assert f"{worker.address}: 0.01 s = wait 0.00 + bytes 0.01" in why
                    with pytest.raises(UserError, match='no step of late has "RUN x" in its name'):
                        await said(commands.why, "RUN x")
                    text = await said(commands.drain, worker.address)
                    assert text == "s gets no more steps; 1 run there\n"
                    assert worker not in fleet.workers
                    assert "draining" in await said(commands.ls)
                    with fleet.listening(worker, Needs(platform=None, deltas=(), step="RUN its")):
                        top = (await said(commands.top)).splitlines()
                        assert top[2].endswith("RUN its (of another coordinator, too)")
                        numbers = [
                            line.split()[2:4] for line in (await said(commands.ls)).splitlines()
                        ]
                        assert ["1", "3"] in numbers  # the slot is the other one's
                    assert len((await said(commands.top)).splitlines()) == 2
                    with pytest.raises(UserError, match="no worker x is connected"):
                        await said(commands.drain, "x")
                    other = next(w for w in fleet.connected if w is not worker)
                    other.blame("it lied")
                    assert "aside: it lied" in await said(commands.ls)
            finally:
                await fleet.close()

    asyncio.run(main())


def test_without_a_coordinator_its_address_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        asyncio.run(control.list_workers(f"{tmp_path}/store/"))
    assert caught.value.message == f"no coordinator answers at unix://{tmp_path}/store-cluster.sock"
    assert "pybuild cluster up" in caught.value.hints[0]
