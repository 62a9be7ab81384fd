"""Layers decompressed by a process beside the one that unpacks them: the same bytes, the same faults."""

from __future__ import annotations

import contextlib
import gc
import gzip
import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import zstandard

from pybuild.image.layer.apply import apply_job
from pybuild.image.layer.compression import LayerSource
from pybuild.image.layer.forkedsource import ForkedSource
from pybuild.image.layer.growingfile import Growing
from pybuild.image.layer.orders import UnpackedLayer, UnpackOrder
from pybuild.model.border import WorkerCall
from pybuild.model.errors import EnvironmentFault
from tests.image.test_apply import tar_of

NOISE = random.Random(7).randbytes(300_000)
TEXT = NOISE[:1000] * 5000  # 5 MB: more than the ring holds


WORDS = "all that grows " * 100_000


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def forked(
    path: Path, blob: bytes, max_bytes: int | None = None, *, digests_blob: bool = True
) -> Generator[ForkedSource]:
    path.write_bytes(blob)
    fd = os.open(path, os.O_RDONLY)
    # A zstd compressor that an earlier test left to the collector would wait in the other process for
    # threads that are not there.
    gc.collect()
    source = ForkedSource(
        lambda: LayerSource(
            lambda size: os.read(fd, size), max_bytes, "make room", digests_blob=digests_blob
        ),
        [fd],
    )
    pid = source.pid
    try:
        yield source
    finally:
        source.close()
        os.close(fd)
    with pytest.raises(ChildProcessError):  # nobody is left behind
        os.waitpid(pid, os.WNOHANG)


def everything(source: ForkedSource) -> bytes:
    parts: list[bytes] = []
    while piece := source.read():
        parts.append(bytes(piece))
    return b"".join(parts)


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", b"x", NOISE, TEXT], ids=["none", "one", "noise", "text"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_what_comes_out_is_what_a_layer_source_gives(
    tmp_path: Path, content: bytes, pack: Callable[[bytes], bytes]
) -> None:
    blob = pack(content)
    with forked(tmp_path / "blob", blob) as source:
        assert everything(source) == content
        assert source.read() == b""
        assert (source.diff_id, source.digest) == (digest(content), digest(blob))
        assert (source.size, source.compressed_size) == (len(content), len(blob))


def test_the_digest_of_the_blob_is_left_out_where_nobody_wants_it(tmp_path: Path) -> None:
    with forked(tmp_path / "blob", gzip.compress(NOISE), digests_blob=False) as source:
        source.drain()
        assert (source.diff_id, source.digest) == (digest(NOISE), "")


@pytest.mark.slow
def test_faults_come_with_their_hints(tmp_path: Path) -> None:
    with (
        forked(tmp_path / "blob", gzip.compress(TEXT), 1_000_000) as source,
        pytest.raises(EnvironmentFault, match="layer is larger than 1000000 bytes") as caught,
    ):
        source.drain()
    assert caught.value.hints == ("make room",)


def test_closing_early_ends_the_other_process(tmp_path: Path) -> None:
    with forked(tmp_path / "blob", TEXT) as source:
        assert source.read()


def test_a_killed_process_is_told_of(tmp_path: Path) -> None:
    with forked(tmp_path / "blob", TEXT) as source:
        source.read()
        os.kill(source.pid, signal.SIGKILL)
        with pytest.raises(EnvironmentFault, match="the process that decompresses a layer has"):
            source.drain()


# --- a blob that still comes ----------------------------------------------------------------------


def test_a_growing_file_is_read_to_the_end_as_it_comes(tmp_path: Path) -> None:
    """However many words about it were lost."""
    path = tmp_path / "blob"
    with path.open("wb", buffering=0) as out, path.open("rb") as read_from:
        told, tell = os.pipe()
        growing = Growing(read_from.fileno(), told, len(NOISE))
        found = bytearray()

        def read() -> None:
            while data := growing.read(1000):
                found.extend(data)

        reader = threading.Thread(target=read)
        reader.start()
        for at in range(0, len(NOISE), 30_000):
            out.write(NOISE[at : at + 30_000])
            if at % 60_000 == 0:
                os.write(tell, b"\0")
        os.close(tell)
        reader.join(60)
        os.close(told)
    assert bytes(found) == NOISE


def test_a_writer_that_gives_up_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        told, tell = os.pipe()
        os.close(tell)
        growing = Growing(file.fileno(), told, 10)
        assert growing.read(100) == b"abc"
        with pytest.raises(EnvironmentFault, match="layer blob ends after 3 of 10 bytes"):
            growing.read(100)
        os.close(told)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("apart", [False, True])
def test_a_layer_is_unpacked_while_its_blob_grows(tmp_path: Path, apart: bool) -> None:
    blob = gzip.compress(tar_of(("a", WORDS), ("b", WORDS)))
    path, target = tmp_path / "blob", tmp_path / "o"
    target.mkdir()
    told, tell = os.pipe()
    with path.open("wb", buffering=0) as out, path.open("rb") as file:
        writer = os.fork()
        if not writer:
            for at in range(0, len(blob), 1000):
                out.write(blob[at : at + 1000])
                os.write(tell, b"\0")
            os._exit(0)
        os.close(tell)
        order = UnpackOrder(str(target), lowers=[], size=len(blob), apart=apart)
        done = apply_job(WorkerCall([file.fileno(), told]), order)
        os.waitpid(writer, 0)
        os.close(told)
    assert isinstance(done, UnpackedLayer)
    assert (target / "a").read_text() == (target / "b").read_text() == WORDS
