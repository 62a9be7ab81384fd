"""A cache in GitHub's Actions cache: its two protocols, its rows of configs, and a service that is no help [CCH-4]."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from pybuild.engine.engine import Engine
from pybuild.engine.progress import InternalStep
from pybuild.engine.settings import Settings
from pybuild.image.cacheformat.config import (
    CACHE_CONFIG,
    CacheContents,
    CachedLayer,
    CachedResult,
    write_config,
)
from pybuild.image.cacheformat.read import read_config
from pybuild.model.descriptor import OCI_LAYER, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.remotecache.place import ANY_CONTENT
from pybuild.remotecache.places import ghaservice
from pybuild.remotecache.places.gha import GhaCache
from pybuild.remotecache.places.ghaoptions import GhaPlace, gha_place, read_rights, with_job
from pybuild.remotecache.places.ghaservice import GhaEntry, GhaFault, GhaService
from tests.ghaserver import ActionsCache, Entry, actions_cache, job_token

BRANCH, MAIN = "refs/heads/feature", "refs/heads/main"
TOKEN = job_token((BRANCH, 3), (MAIN, 1))
OWN_ROW = "index-app-1-f04dcc3f#"
MAIN_ROW = "index-app-1-f921bd05#"
BLOB = b"layer" * 1000
LAYER = Descriptor(OCI_LAYER, Digest.of(BLOB), len(BLOB))
Work = Callable[[GhaService], Awaitable[None]]


@pytest.fixture
def cache() -> Iterator[ActionsCache]:
    with actions_cache() as running:
        running.tokens.add(TOKEN)
        yield running


def place(cache: ActionsCache, *, second: bool = True, token: str = TOKEN) -> GhaPlace:
    return GhaPlace(scope="app", url=cache.url, token=token, is_second=second)


def with_service(at: GhaPlace, work: Work) -> None:
    async def opened() -> None:
        service = GhaService(at, {})
        try:
            await work(service)
        finally:
            await service.close()

    asyncio.run(opened())


def document(name: str) -> tuple[Descriptor, bytes]:
    """Return a config with one result of its own."""
    diff_id = Digest.of(name.encode())
    layer = CachedLayer(diff_id=diff_id, blob=Descriptor(OCI_LAYER, diff_id, 1))
    data = write_config(
        CacheContents({diff_id: layer}, (CachedResult(key=diff_id, layers=(diff_id,)),))
    )
    return Descriptor(CACHE_CONFIG, Digest.of(data), len(data)), data


# --- what a job is given --------------------------------------------------------------------------


def test_rights_are_those_that_the_token_names() -> None:
    rights = read_rights(job_token((BRANCH, 3), (MAIN, 1), expires=77))
    assert (rights.readable, rights.writable, rights.expires) == ((BRANCH, MAIN), BRANCH, 77.0)
    assert read_rights(job_token((MAIN, 1))).writable is None
    for text in ("", "a.b", "a.!!.c", "a.e30.c", f"x.{job_token()[:9]}.y"):
        with pytest.raises(UsageError, match="none of a job's"):
            read_rights(text)


def test_attributes_are_the_references_own() -> None:
    attrs = {"scope": "s", "url": "http://one/", "url_v2": "http://two/", "token": "t"}
    assert str(gha_place(attrs, "exporter")) == "gha:s"
    second = gha_place(attrs, "exporter")
    assert (second.url, second.is_second, second.token) == ("http://two", True, "t")
    first = gha_place(attrs | {"version": "1"}, "exporter")
    assert (first.url, first.is_second) == ("http://one", False)
    assert not gha_place({"url": "http://one"}, "importer").is_second
    assert gha_place({"url": "http://one", "version": "2"}, "importer").is_second
    github = "https://results-receiver.actions.githubusercontent.com/"
    assert gha_place({"url": github}, "importer").is_second
    assert gha_place({"timeout": "2m"}, "importer").patience_s == 120.0
    assert gha_place({}, "importer").scope == "buildkit"
    assert "secret-token" not in repr(gha_place({"token": "secret-token"}, "importer"))


def test_what_is_not_given_is_the_jobs() -> None:
    environ = {
        "ACTIONS_RUNTIME_TOKEN": "t",
        "ACTIONS_CACHE_URL": "http://one",
        "ACTIONS_RESULTS_URL": "http://two",
    }
    assert with_job({}, environ) == {"token": "t", "url": "http://one"}
    second = environ | {"ACTIONS_CACHE_SERVICE_V2": "True"}
    assert with_job({}, second) == {
        "version": "2",
        "token": "t",
        "url": "http://one",
        "url_v2": "http://two",
    }
    own = {"token": "x", "url": "http://own", "version": "1"}
    assert with_job(own, second) == own
    assert with_job({}, {}) == {}


# --- the protocols --------------------------------------------------------------------------------


@pytest.mark.parametrize("second", [True, False], ids=["v2", "v1"])
def test_an_entry_is_written_once_and_found_by_the_start_of_its_key(
    cache: ActionsCache, tmp_path: Path, second: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ghaservice, "PART_BYTES", 2048)
    (tmp_path / "blob").write_bytes(BLOB)

    async def work(service: GhaService) -> None:
        assert await service.find("k") is None
        sent: list[int] = []
        for key, source in (("key-1", b"small"), ("key-2", str(tmp_path / "blob"))):
            reserved = await service.reserve(key)
            assert reserved is not None
            size = len(source) if isinstance(source, bytes) else len(BLOB)
            await service.write(reserved, source, size, sent.append)
        assert (sent[0], sent[-1], len(sent)) == (5, 5000, 4)
        assert await service.reserve("key-1") is None
        newest = await service.find("key-")
        assert newest is not None and newest.key == "key-2"
        assert b"".join([piece async for piece in service.pieces(newest, len(BLOB))]) == BLOB
        first = await service.find("key-1")
        assert first is not None and await service.read(first, 5) == b"small"
        with pytest.raises(GhaFault, match="read key-1: more than 4 bytes"):
            await service.read(first, 4)
        with pytest.raises(GhaFault, match="read key-1: 5 of 6 bytes"):
            async for _ in service.pieces(first, 6):
                pass

    with_service(place(cache, second=second), work)
    assert all("sig" not in one for one in cache.requests)


def test_a_download_goes_on_where_it_broke_and_when_its_url_expired(cache: ActionsCache) -> None:
    async def work(service: GhaService) -> None:
        reserved = await service.reserve("k")
        assert reserved is not None
        await service.write(reserved, BLOB, len(BLOB), lambda sent: None)
        entry = await service.find("k")
        assert entry is not None
        cache.cut[:] = [0, 1000, 3000]
        assert b"".join([piece async for piece in service.pieces(entry, len(BLOB))]) == BLOB
        cache.signature = "another"
        assert await service.read(entry, len(BLOB)) == BLOB
        cache.entries.clear()
        cache.signature = "yet another"
        with pytest.raises(GhaFault, match="read k: status 403"):
            await service.read(entry, len(BLOB))

    with_service(place(cache), work)


def test_a_service_that_asks_for_patience_gets_it(cache: ActionsCache) -> None:
    async def work(service: GhaService) -> None:
        cache.refuse[:] = [(429, "0"), (503, "0")]
        assert await service.find("k") is None
        assert len(cache.requests) == 3
        cache.refuse[:] = [(429, "3600")]
        with pytest.raises(GhaFault, match="too much"):
            await service.find("k")

    with_service(place(cache), work)


def test_a_token_that_the_service_does_not_take_is_an_error_with_a_way_out(
    cache: ActionsCache,
) -> None:
    async def work(service: GhaService) -> None:
        with pytest.raises(GhaFault, match="no such token") as caught:
            await service.find("k")
        assert caught.value.status == 401
        assert "may have expired" in caught.value.hints[0]

    with_service(place(cache, token=job_token((MAIN, 3))), work)


def test_answers_that_mean_nothing_are_refused(
    cache: ActionsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(service: GhaService) -> None:
        with pytest.raises(GhaFault, match="no URL to read from"):
            await service.find("k")

    def outside(cache: ActionsCache, entry: Entry) -> str:
        return "file:///etc/passwd"

    cache.reserve("k", ghaservice.ENTRY_VERSION)
    cache.entries[0].is_whole = True
    monkeypatch.setattr(ActionsCache, "signed", outside)
    with_service(place(cache), work)


# --- the cache ------------------------------------------------------------------------------------


class Pauses:
    """Pauses that take no time but their own."""

    def __init__(self) -> None:
        self.passed = 0.0

    async def pause(self, seconds: float) -> None:
        self.passed += seconds

    def monotonic(self) -> float:
        return 100.0 + self.passed


Check = Callable[[GhaCache, Engine], Awaitable[None]]


def with_cache(at: GhaPlace, directory: Path, check: Check) -> Pauses:
    pauses = Pauses()

    async def opened() -> None:
        async with Engine(Settings(root=str(directory / "store"))) as engine:
            cache = GhaCache(engine, at, pause=pauses.pause, monotonic=pauses.monotonic)
            await check(cache, engine)

    asyncio.run(opened())
    return pauses


def step(engine: Engine) -> InternalStep:
    return InternalStep(Digest.of(b""), lambda event: None, engine.clock)


def test_configs_are_a_row_and_a_branch_reads_its_parents_too(
    cache: ActionsCache, tmp_path: Path
) -> None:
    ours, theirs = document("ours"), document("theirs")
    newer = document("newer")

    async def check(own: GhaCache, engine: Engine) -> None:
        with pytest.raises(UserError, match="gha:app: not found"):
            await own.root()
        assert await own.named() is None
        assert await own.finish(*ours, None)
        assert cache.keys() == [f"{OWN_ROW}1"]
        assert await own.named() == ours[0]
        assert await own.read(ours[0], 1 << 20) == ours[1]
        main = GhaCache(engine, place(cache, token=job_token((MAIN, 2))))
        cache.tokens.add(job_token((MAIN, 2)))
        assert await main.finish(*theirs, ANY_CONTENT)
        assert await main.finish(*newer, theirs[0].digest)
        assert cache.keys()[1:] == [f"{MAIN_ROW}1", f"{MAIN_ROW}2"]
        _, data = await own.root()
        results = {one.key for one in read_config(data).results}
        assert results == {Digest.of(b"ours"), Digest.of(b"newer")}

    with_cache(place(cache), tmp_path, check)


def test_of_two_writers_one_writes_and_the_other_looks_again(
    cache: ActionsCache, tmp_path: Path
) -> None:
    one, other = document("one"), document("other")

    async def check(first: GhaCache, engine: Engine) -> None:
        pauses = Pauses()
        second = GhaCache(engine, place(cache), pause=pauses.pause, monotonic=pauses.monotonic)
        assert await first.named() is None
        assert await second.named() is None
        assert await first.finish(*one, None)
        assert not await second.finish(*other, None)
        assert pauses.passed > 0
        assert await second.named() == one[0]
        assert await second.finish(*other, one[0].digest)
        assert cache.keys() == [f"{OWN_ROW}1", f"{OWN_ROW}2"]

    with_cache(place(cache), tmp_path, check)


def test_a_number_whose_writer_is_gone_is_passed_over(cache: ActionsCache, tmp_path: Path) -> None:
    made = document("made")
    cache.reserve(f"{OWN_ROW}1", ghaservice.ENTRY_VERSION)

    async def check(own: GhaCache, engine: Engine) -> None:
        tries = 0
        while not await own.finish(*made, None):
            assert await own.named() is None
            tries += 1
        assert tries == 9
        assert cache.keys() == [f"{OWN_ROW}2"]

    pauses = with_cache(place(cache), tmp_path, check)
    assert pauses.passed == 16.0


def test_a_number_that_was_just_taken_is_not_passed_over_with_one_whose_writer_is_gone(
    cache: ActionsCache, tmp_path: Path
) -> None:
    one, other = document("one"), document("other")
    cache.reserve(f"{OWN_ROW}1", ghaservice.ENTRY_VERSION)

    async def check(own: GhaCache, engine: Engine) -> None:
        for _ in range(8):
            assert not await own.finish(*other, None)
        taken = cache.reserve(f"{OWN_ROW}2", ghaservice.ENTRY_VERSION)
        for _ in range(4):
            assert not await own.finish(*other, None)
        assert taken is not None
        taken.data, taken.is_whole = one[1], True
        assert await own.named() == one[0]
        assert await own.finish(*other, one[0].digest)
        assert cache.keys() == [f"{OWN_ROW}2", f"{OWN_ROW}3"]

    with_cache(place(cache), tmp_path, check)


def test_a_write_whose_caller_is_cancelled_comes_to_its_end(
    cache: ActionsCache, tmp_path: Path
) -> None:
    """A carrier is cancelled when the build ends, and its number would keep everybody waiting."""
    made = document("made")

    async def check(own: GhaCache, engine: Engine) -> None:
        write = asyncio.create_task(own.finish(*made, None))
        while not cache.entries:
            await asyncio.sleep(0.001)
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        assert not await own.finish(*made, None)
        assert cache.keys() == [f"{OWN_ROW}1"]
        assert await own.named() == made[0]

    assert with_cache(place(cache), tmp_path, check).passed == 0


def test_a_slow_writer_who_was_passed_over_looks_again(cache: ActionsCache, tmp_path: Path) -> None:
    one, other = document("one"), document("other")

    async def check(_: GhaCache, engine: Engine) -> None:
        def monotonic() -> float:
            """Return a time at which the number that was taken has been passed over."""
            is_passed = len(cache.entries) > 1
            if not is_passed:
                key = f"{OWN_ROW}2"
                cache.entries.append(Entry(key, ghaservice.ENTRY_VERSION, 2, True, one[1]))
            return 20.0 if is_passed else 0.0

        slow = GhaCache(engine, place(cache), monotonic=monotonic)
        assert not await slow.finish(*other, None)
        assert await slow.named() == one[0]

    with_cache(place(cache), tmp_path, check)


def test_a_layer_goes_there_and_back_beside_one_that_was_never_ended(
    cache: ActionsCache, tmp_path: Path
) -> None:
    cache.reserve(f"buildkit-blob-1-{LAYER.digest}", ghaservice.ENTRY_VERSION)

    async def check(own: GhaCache, engine: Engine) -> None:
        engine.store.blobs.put(BLOB)
        assert not await own.has(LAYER)
        await own.put(LAYER, step(engine))
        assert cache.keys() == [f"buildkit-blob-1-{LAYER.digest}-1"]
        assert await own.has(LAYER)
        assert await own.read(LAYER, len(BLOB)) == BLOB
        async with Engine(Settings(root=str(tmp_path / "fresh"))) as fresh:
            there = GhaCache(fresh, place(cache))
            await fresh.images.lenders[there.place["layout"]](LAYER, step(fresh))
            assert Path(fresh.store.blobs.path(LAYER.digest)).read_bytes() == BLOB
        cache.entries[-1].data = b"x" * len(BLOB)
        with pytest.raises(EnvironmentFault, match="is damaged"):
            await own.read(LAYER, len(BLOB))
        cache.entries.clear()
        with pytest.raises(UserError, match="no blob .* any more"):
            await own.read(LAYER, len(BLOB))

    with_cache(place(cache), tmp_path, check)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "needs the token and the URL"),
        ("nonsense", "none of a job's"),
        (job_token((BRANCH, 3), expires=1), "has expired"),
        (job_token((BRANCH, 1)), "may not write"),
    ],
)
def test_a_place_that_cannot_be_written_says_so_before_anything_is_built(
    cache: ActionsCache, tmp_path: Path, token: str, why: str
) -> None:
    async def check(own: GhaCache, engine: Engine) -> None:
        with pytest.raises(UserError, match=why) as caught:
            await own.check()
        assert caught.value.hints

    with_cache(place(cache, token=token), tmp_path, check)
    assert cache.requests == []


def test_an_entry_that_is_no_number_is_an_error(cache: ActionsCache, tmp_path: Path) -> None:
    entry = cache.reserve(f"{OWN_ROW}x", ghaservice.ENTRY_VERSION)
    assert entry is not None
    entry.is_whole = True

    async def check(own: GhaCache, engine: Engine) -> None:
        with pytest.raises(EnvironmentFault, match="that is no number"):
            await own.named()

    with_cache(place(cache), tmp_path, check)


def test_an_entry_of_another_key_is_none(
    cache: ActionsCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = cache.reserve("other", ghaservice.ENTRY_VERSION)

    def any_key(cache: ActionsCache, prefixes: list[str], version: str) -> Entry | None:
        return entry

    monkeypatch.setattr(ActionsCache, "find", any_key)

    async def work(service: GhaService) -> None:
        assert await service.find("k") is None
        assert await service.find("oth") == GhaEntry("other", cache.signed(cache.entries[0]))

    with_service(place(cache), work)
