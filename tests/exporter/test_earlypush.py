"""Pushes that a build begins while steps run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pybuild.exporter.earlypush import PushAhead
from pybuild.exporter.output import Output
from pybuild.model.descriptor import OCI_LAYER_GZIP, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.reference import Reference
from pybuild.registry.client.growingupload import GrowingFile
from tests.descriptors import none_left_open

_PROGRAM = """
import asyncio, sys
from pybuild.exporter.earlypush import importing_ahead
from pybuild.exporter.output import Output

async def main(output):
    told = []
    missed = importing_ahead([output], lambda *what: told.append(what))
    missed("a", "b")
    missed("c", "d")
    assert told == [("a", "b"), ("c", "d")]

kind, *flags = sys.argv[1:]
asyncio.run(main(Output(type=kind, attrs=dict.fromkeys(flags, "true"))))
print("yarl" in sys.modules, "pybuild.registry.client.push" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "is_imported"), [(["registry"], True), (["image", "push"], True), (["image"], False)]
)
def test_the_registry_client_is_imported_while_the_first_step_runs(
    output: list[str], is_imported: bool
) -> None:
    words = [sys.executable, "-c", _PROGRAM, *output]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(is_imported)] * 2


class FakeClient:
    """Sends a blob until it is whole."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.ended: list[int] = []

    async def push_early(self, _target: object, file: GrowingFile, _progress: object) -> bool:
        number = len(self.begun)
        self.begun.append(number)
        await file.whole()
        self.ended.append(number)
        return True


def ahead_to(client: FakeClient, **attrs: str) -> PushAhead:
    engine = SimpleNamespace(client=lambda: client)
    output = Output(type="registry", attrs=attrs)
    step = SimpleNamespace(transfer=None)
    return PushAhead(cast(Any, engine), output, [Reference.parse("a.example/b:1")], cast(Any, step))


def blob_files(folder: Path, *sizes: int) -> list[str]:
    for number, size in enumerate(sizes):
        with (folder / str(number)).open("wb") as file:
            file.truncate(size)
    return [str(folder / str(number)) for number in range(len(sizes))]


BLOB = Descriptor(OCI_LAYER_GZIP, Digest.of(b""), 0)


def test_two_layers_are_sent_at_once_and_the_rest_when_all_are_made(tmp_path: Path) -> None:
    client = FakeClient()

    async def work() -> None:
        async with ahead_to(client) as ahead:
            followers = [ahead.follow(path) for path in blob_files(tmp_path, *[5 << 20] * 5)]
            for follower in followers:
                follower.grown(0)
            await asyncio.sleep(0)
            assert client.begun == [0, 1]
            followers[0].complete(BLOB)
            while client.begun != [0, 1, 2]:
                await asyncio.sleep(0)
            for follower in followers:
                follower.complete(BLOB)
            await ahead.settled()
        assert set(client.ended) == {0, 1, 2}

    with none_left_open():
        asyncio.run(work())


def test_a_layer_that_was_made_at_a_stroke_is_sent_while_others_are_made(tmp_path: Path) -> None:
    client = FakeClient()

    async def work() -> None:
        async with ahead_to(client) as ahead:
            (path,) = blob_files(tmp_path, 1 << 20)
            ahead.follow(path).complete(BLOB)
            while client.ended != [0]:
                await asyncio.sleep(0)
            await ahead.settled()

    asyncio.run(work())


def test_small_layers_wait_for_their_image(tmp_path: Path) -> None:
    client = FakeClient()

    async def work() -> None:
        async with ahead_to(client) as ahead:
            (path,) = blob_files(tmp_path, (1 << 20) - 1)
            follower = ahead.follow(path)
            follower.grown(0)
            follower.complete(BLOB)
            await ahead.settled()

    asyncio.run(work())
    assert client.begun == []


def test_a_build_that_fails_stops_sending(tmp_path: Path) -> None:
    client = FakeClient()

    async def work() -> None:
        async with ahead_to(client) as ahead:
            for path in blob_files(tmp_path, *[5 << 20] * 3):
                ahead.follow(path).grown(0)
            await asyncio.sleep(0)
            raise UserError("no")

    with none_left_open(), pytest.raises(UserError):
        asyncio.run(work())
    assert (client.begun, client.ended) == ([0, 1], [])
