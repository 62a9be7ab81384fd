"""Attacks on sessions and builds, and by asking the server for what belongs to somebody else."""

from __future__ import annotations

import asyncio

from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.filesync import file_sync
from pybuild.client.session import ClientSession
from tests.buildkit.llbs import Builder
from tests.daemon.buildsites import CONTROL
from tests.security.attacks import ATTACKS, Attack, attack, hears_nothing
from tests.security.tenants import BRIDGE, CONTENT, EXPLAIN, Stage, Tenant, marker

# --- sessions and builds --------------------------------------------------------------------------


@attack
async def session_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    (context / "f").write_text(text)
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered).open(a.channel) as session:
        request = pb.SolveRequest(Ref=marker("r"), Session=session.id, Frontend="dockerfile.v0")
        await b.ask(CONTROL + "Solve", request.SerializeToString())
        builder = Builder()
        local = llb.SourceOp(identifier="local://context", attrs={"local.session": session.id})
        assert (await b.build("", definition=builder.end(builder.add(llb.Op(source=local))))).error
        policy = pb.SolveRequest(Ref=marker("r"), SourcePolicySession=session.id)
        await b.ask(CONTROL + "Solve", policy.SerializeToString())
    hears_nothing(b, text)


@attack
async def session_id_taken_first(stage: Stage, a: Tenant, b: Tenant) -> None:
    """A client that knows the id which another session will have does not stand in for it."""
    id, text = marker("id"), marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered, id=id).open(b.channel):
        (context / "Dockerfile").write_text(f"FROM scratch\nCOPY Dockerfile /{text}\n")
        async with ClientSession(offered, id=id).open(a.channel):
            pass
    hears_nothing(b, text)


@attack
async def build_of_somebody_else_driven(stage: Stage, a: Tenant, b: Tenant) -> None:
    ref = marker("ref")
    text = marker()
    context = stage.folder / marker("c")
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY f /\n")
    (context / "f").write_text(text)
    offered = file_sync({"context": str(context), "dockerfile": str(context)})
    async with ClientSession(offered).open(a.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(a.ask(CONTROL + "Solve", request))
        asked = gateway.SolveRequest(
            Frontend="dockerfile.v0", allowResultReturn=True, Evaluate=True
        )
        asked.allowResultArrayRef = True
        found = gateway.SolveResponse.FromString(
            await a.ask(BRIDGE + "Solve", asked.SerializeToString(), ref=ref)
        )
        read = gateway.ReadFileRequest(Ref=found.result.ref.id, FilePath="f").SerializeToString()
        assert text.encode() in await a.ask(BRIDGE + "ReadFile", read, ref=ref)
        for method, data in (
            ("ReadFile", read),
            ("Solve", asked.SerializeToString()),
            ("Ping", b""),
        ):
            assert await b.ask(BRIDGE + method, data, ref=ref) == b""
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await b.ask(BRIDGE + "Return", end, ref=ref)
        await a.ask(BRIDGE + "Return", end, ref=ref)
        await building
    hears_nothing(b, text)


@attack
async def reference_of_another_build(stage: Stage, a: Tenant, b: Tenant) -> None:
    """An id of a result means nothing in another build."""
    ref = marker("ref")
    async with ClientSession(file_sync({})).open(b.channel) as session:
        request = pb.SolveRequest(Ref=ref, Session=session.id).SerializeToString()
        building = asyncio.create_task(b.ask(CONTROL + "Solve", request))
        read = gateway.ReadFileRequest(Ref=marker("id"), FilePath="etc/passwd").SerializeToString()
        assert await b.ask(BRIDGE + "ReadFile", read, ref=ref) == b""
        end = gateway.ReturnRequest(result=gateway.Result()).SerializeToString()
        await b.ask(BRIDGE + "Return", end, ref=ref)
        await building


@attack
async def directory_under_an_equal_key(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, key = marker(), marker("key")
    await a.build("FROM scratch\nCOPY . /\n", {"f": text}, shared_key=key)
    got = await b.build("FROM scratch\nCOPY . /\n", {"f": "x" * len(text)}, shared_key=key)
    assert text not in got.files["f"]
    hears_nothing(b, text)


# --- what the server tells ------------------------------------------------------------------------


async def _told(a: Tenant) -> tuple[str, list[str]]:
    """Let *a* build something that says its secret wherever it can."""
    text = marker()
    made = await a.build(
        f"FROM base\nARG TOKEN\nRUN echo {text}-log; echo {text} > /f\n",
        attrs={"build-arg:TOKEN": text, "label:x": text},
        tag=f"private.example/{text}:1",
    )
    assert not made.error
    return text, [made.ref]


@attack
async def history_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    assert text.encode() in b"".join(r.SerializeToString() for r in await a.history(ref))
    assert await b.history(ref) == []
    await b.history()
    hears_nothing(b, text, ref)


@attack
async def history_while_it_happens(stage: Stage, a: Tenant, b: Tenant) -> None:
    request = pb.BuildHistoryRequest(ActiveOnly=True).SerializeToString()
    heard = bytearray()

    async def listen() -> None:
        async with b.channel.stream(CONTROL + "ListenBuildHistory") as call:
            await call.send(request)
            await call.half_close()
            while (message := await call.receive()) is not None:
                heard.extend(message)

    listening = asyncio.create_task(listen())
    text, (ref,) = await _told(a)
    await b.build("FROM scratch\nCOPY Dockerfile /\n")  # which is heard of
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert heard and text.encode() not in heard and ref.encode() not in heard


@attack
async def progress_of_somebody_else(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    await b.stream(CONTROL + "Status", pb.StatusRequest(Ref=ref).SerializeToString())
    hears_nothing(b, text)


@attack
async def history_taken_away(stage: Stage, a: Tenant, b: Tenant) -> None:
    _, (ref,) = await _told(a)
    for request in (
        pb.UpdateBuildHistoryRequest(Ref=ref, Delete=True),
        pb.UpdateBuildHistoryRequest(Ref=ref, Pinned=True),
    ):
        await b.ask(CONTROL + "UpdateBuildHistory", request.SerializeToString())
    (record,) = await a.history(ref)
    assert not record.pinned


@attack
async def content_of_somebody_elses_history(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, (ref,) = await _told(a)
    (record,) = await a.history(ref)
    digests = [record.logs.digest, record.trace.digest, *_digests(record)]
    for digest in filter(None, digests):
        assert await b.content(digest) == b""
        info = pb_info(digest)
        assert await b.ask(CONTENT + "Info", info) == b""
    hears_nothing(b, text)


def _digests(record: pb.BuildHistoryRecord) -> list[str]:
    found = [one.digest for one in record.Result.Results.values()]
    return found + [one.digest for one in record.Result.Attestations]


def pb_info(digest: str) -> bytes:
    from pybuild.buildkit.pb import content

    return content.InfoRequest(digest=digest).SerializeToString()


@attack
async def content_of_the_store(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    made = await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="store")
    for digest in {value for value in made.exported.values() if value.startswith("sha256:")}:
        assert await b.content(digest) == b""
    for path in list(stage.pybuild.store.glob("**/blobs/sha256/*"))[:200]:
        if text.encode() in path.read_bytes():
            assert await b.content(f"sha256:{path.name}") == b""
    hears_nothing(b, text)


def _explains(request: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text, (ref,) = await _told(a)
        await b.stream(EXPLAIN, request.replace("REF", ref).encode())
        hears_nothing(b, text)

    return run


for _title, _request in {
    "latest": "{}",
    "all": '{"all": true}',
    "by_ref": '{"ref": "REF"}',
}.items():
    ATTACKS[f"explanation_{_title}"] = _explains(_request)


@attack
async def explanation_by_the_nearest_result(stage: Stage, a: Tenant, b: Tenant) -> None:
    """A miss is explained by what differs, which must not be taken from somebody else."""
    text = marker()
    dockerfile = "FROM base\nARG V\nCOPY . /d\nRUN echo $V > /f\n"
    await a.build(dockerfile, {text: "x"}, attrs={"build-arg:V": text})
    await b.build(dockerfile, {"other": "y"}, attrs={"build-arg:V": "other"})
    await b.stream(EXPLAIN, b"{}")
    hears_nothing(b, text)


def _usage(*filters: str) -> Attack:
    async def run(stage: Stage, a: Tenant, b: Tenant) -> None:
        text, _ = await _told(a)
        request = pb.DiskUsageRequest(filter=filters)
        await b.ask(CONTROL + "DiskUsage", request.SerializeToString())
        hears_nothing(b, text)

    return run


ATTACKS["usage_of_somebody_else"] = _usage()
ATTACKS["usage_of_cache_mounts"] = _usage("type==exec.cachemount")


@attack
async def prune_of_somebody_elses_cache(stage: Stage, a: Tenant, b: Tenant) -> None:
    dockerfile = f"FROM base\nRUN echo {marker('x')} > /f\n"
    await a.build(dockerfile)
    heard = await b.stream(CONTROL + "Prune", pb.PruneRequest(all=True).SerializeToString())
    again = await a.build(dockerfile)
    if stage.share != "none":
        assert any("RUN" in name for name in again.cached), (again.ran, heard)
    hears_nothing(b, dockerfile.split()[4])


@attack
async def workers_tell_nothing(stage: Stage, a: Tenant, b: Tenant) -> None:
    text, _ = await _told(a)
    await b.ask(CONTROL + "ListWorkers")
    await b.ask(CONTROL + "Info")
    hears_nothing(b, text)


@attack
async def guess_by_what_is_cached(stage: Stage, a: Tenant, b: Tenant) -> None:
    """Nobody learns from a hit what somebody else has built, unless both share on purpose."""
    guess = marker()
    dockerfile = f"FROM base\nRUN echo {guess} > /f\n"
    await a.build(dockerfile)
    got = await b.build(dockerfile)
    is_cached = any("RUN" in name for name in got.cached)
    assert is_cached == (stage.share == "all"), got.cached
    again = any("RUN" in name for name in (await b.build(dockerfile)).cached)
    assert again == (stage.share != "none")


@attack
async def guess_of_a_file_that_was_copied(stage: Stage, a: Tenant, b: Tenant) -> None:
    files = {"f": marker()}
    await a.build("FROM base\nCOPY f /f\nRUN cat /f > /g\n", files)
    got = await b.build("FROM base\nCOPY f /f\nRUN cat /f > /g\n", files)
    assert any("RUN" in name for name in got.cached) == (stage.share == "all")


@attack
async def step_of_somebody_else_while_it_runs(stage: Stage, a: Tenant, b: Tenant) -> None:
    """Two equal steps with secrets of their owners at once: each has its own."""
    texts = marker("one"), marker("two")
    dockerfile = f"FROM base\nRUN --mount=type=secret,id=t sleep 1; echo {marker('x')}; cat /run/secrets/t | tee /out-t\n"
    got = await asyncio.gather(
        *(t.build(dockerfile, lent={"t": text}) for t, text in zip((a, b), texts, strict=True))
    )
    assert [one.files["out-t"] for one in got] == list(texts)
    hears_nothing(a, texts[1])
    hears_nothing(b, texts[0])


@attack
async def names_after_a_restart(stage: Stage, a: Tenant, b: Tenant) -> None:
    text = marker()
    await a.build("FROM scratch\nCOPY f /\n", {"f": text}, tag="kept")
    stage.restart()
    async with stage.tenants() as (first, second):
        own = await first.build("FROM kept\n", mode="local")
        assert own.files.get("f") == text or stage.share == "none", own.error
        assert (await second.build("FROM kept\n", mode="local")).error
        hears_nothing(second, text)
