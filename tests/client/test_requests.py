"""The request to a server, and the outputs, caches, blobs and records of servers that belong to it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest

from pybuild.buildkit.pb import content as pb
from pybuild.buildkit.pb.sshforward import CheckAgentRequest
from pybuild.buildkit.policies import read_policies
from pybuild.buildkit.session.bytesmessage import unwrap
from pybuild.builds.request import BuildRequest
from pybuild.client.build import solve_request
from pybuild.client.builders import (
    BuilderRecord,
    Builders,
    chosen,
    records_file,
    tls_files,
    with_files,
)
from pybuild.client.caches import Caches, finish_caches, plan_caches
from pybuild.client.content import BlobDirectory, Ingest, content
from pybuild.client.exports import descriptor_of, finish, image_id_of, metadata_of, plan
from pybuild.client.filesync import decoded
from pybuild.client.session import ClientSession
from pybuild.client.ssh import ssh
from pybuild.client.upload import METHOD as PULL
from pybuild.client.upload import upload
from pybuild.commandline.parser import Parsed
from pybuild.exporter.output import Output, parse_output
from pybuild.image.archive import write_oci_layout
from pybuild.model.descriptor import OCI_MANIFEST, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, UsageError, UserError
from pybuild.model.events import BuildWarning, Event
from pybuild.model.policy import Action, Policies, Policy, Rule, Selector
from pybuild.model.reference import Reference
from pybuild.net.grpc.calls import Handler
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import Code, RpcError
from pybuild.remotecache.options import CacheFrom, CacheTo
from tests.daemon.serving import channel
from tests.image.images import Blobs, make_image

IMAGE = Digest.of(b"image")

# --- the request ----------------------------------------------------------------------------------


def test_a_request_says_all_that_is_not_for_the_frontend() -> None:
    policy = Policies((Policy((Rule(Action.DENY, Selector("x")),)),))
    request = BuildRequest(
        context=".",
        allow=frozenset(("security.insecure", "network.host", "buildx.local.delete")),
        policies=policy,
        outputs=(Output(type="registry"), Output(type="cacheonly")),
        tags=(Reference.parse("a"),),
    )
    message = solve_request(request, {"k": "v"}, plan(request))
    assert (message.Frontend, dict(message.FrontendAttrs)) == ("dockerfile.v0", {"k": "v"})
    assert list(message.Entitlements) == ["network.host", "security.insecure"]
    assert len(message.Ref) == 32 and message.Ref != solve_request(request, {}, plan(request)).Ref
    (exporter,) = message.Exporters
    assert message.ExporterDeprecated == exporter.Type == "image"
    assert dict(message.ExporterAttrsDeprecated) == dict(exporter.Attrs)
    assert read_policies([message.SourcePolicy]) == policy


def test_a_request_without_outputs_or_policies_names_none() -> None:
    request = BuildRequest(context=".", outputs=(Output(type="cacheonly"),))
    message = solve_request(request, {}, plan(request))
    assert not message.HasField("SourcePolicy") and message.ExporterDeprecated == ""
    assert len(message.Exporters) == len(message.Entitlements) == 0


def test_the_version_of_images_is_said_once_for_all_outputs() -> None:
    outputs = (Output(type="cacheonly"), parse_output("type=oci,dest=x,compatibility-version=20"))
    request = BuildRequest(context=".", outputs=outputs)
    assert solve_request(request, {}, plan(request)).CompatibilityVersion == 20


def test_a_session_says_what_it_offers() -> None:
    session = ClientSession({"/b/B": _never, "/a/A": _never}, shared_key="k", id="i")
    metadata = session.metadata()
    assert metadata.get("x-docker-expose-session-uuid") == "i"
    assert metadata.get("x-docker-expose-session-sharedkey") == "k"
    assert metadata.get_all("x-docker-expose-session-grpc-method") == [
        "/a/A",
        "/b/B",
        "/grpc.health.v1.Health/Check",
    ]
    assert len(ClientSession({}).id) == 32 and ClientSession({}).id != ClientSession({}).id


async def _never(call: object) -> None:
    raise AssertionError(call)


def test_values_of_keys_may_be_escaped() -> None:
    plain = Metadata({"k": "a%20b"})
    plain.add("k", "c")
    assert decoded(plain, "k") == ["a%20b", "c"] and decoded(plain, "none") == []
    escaped = Metadata({"k": "a%20b+%ff", "k-encoded": "1"})
    assert decoded(escaped, "k") == ["a b \udcff"]
    assert decoded(Metadata({"k": "%20", "k-encoded": "0"}), "k") == ["%20"]


# --- outputs --------------------------------------------------------------------------------------


def asked(*outputs: Output, tags: tuple[str, ...] = ()) -> BuildRequest:
    return BuildRequest(
        context=".", outputs=outputs, tags=tuple(Reference.parse(text) for text in tags)
    )


def test_a_layout_is_begun_at_once_and_named_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    blobs = Blobs(tmp_path / "blobs")
    made = make_image(blobs, [tmp_path / "tree"])
    dest = tmp_path / "out"
    output = Output(type="oci", dest=str(dest), attrs={"tar": "false"})
    exports = plan(asked(output, tags=("a:1",)))
    assert (exports.layout, exports.names) == (str(dest), ("docker.io/library/a:1",))
    assert exports.targets == {} and exports.store is not None and exports.store.writable
    assert json.loads((dest / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    folder = dest / "blobs/sha256"
    folder.mkdir(parents=True)
    for path in (tmp_path / "blobs").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    finish(exports, said(made))
    (entry,) = json.loads((dest / "index.json").read_text())["manifests"]
    assert entry["digest"] == made.digest
    again = plan(asked(output))
    assert again.layout == str(dest)  # a layout may get another image
    finish(plan(asked()), {})


def said(made: Descriptor) -> dict[str, str]:
    text = base64.b64encode(json.dumps(made.to_json()).encode()).decode()
    return {"containerimage.descriptor": text}


def test_names_of_images_are_whole_and_each_there_once() -> None:
    image = Output(type="image", attrs={"name": "b,,a:latest"})
    exports = plan(asked(image, tags=("a", "c:2")))
    names = ("docker.io/library/a:latest", "docker.io/library/c:2", "docker.io/library/b:latest")
    assert exports.image_names == names
    assert exports.exporters[0].Attrs["name"] == ",".join(names)
    bare = plan(asked(Output(type="image"))).exporters[0]
    assert dict(bare.Attrs) == {}
    with pytest.raises(UsageError, match="an image cannot be named by a digest"):
        plan(asked(Output(type="image"), tags=(f"a@{IMAGE}",)))


def test_an_engine_is_here_and_not_at_the_server() -> None:
    with pytest.raises(UsageError, match="type=docker without a dest") as caught:
        plan(asked(Output(type="docker")))
    assert caught.value.hints == ("--load brings the image to this machine and its engine",)


def test_facts_of_an_image_are_those_of_the_answer() -> None:
    made = Descriptor("m", IMAGE, 3)
    config = Digest.of(b"config")
    assert descriptor_of({}) is None and descriptor_of(said(made)) == made
    assert image_id_of({"containerimage.config.digest": config}, made) == config
    facts = metadata_of(
        {**said(made), "cache.manifest": '{"a":1}', "other": '{"a":1}', "a": "b"}, config
    )
    assert facts == {
        "a": "b",
        "cache.manifest": {"a": 1},
        "containerimage.config.digest": config,
        "containerimage.descriptor": made.to_json(),
        "other": '{"a":1}',
    }
    assert list(facts) == sorted(facts)
    assert metadata_of({"cache.manifest": "{"}, None) == {"cache.manifest": "{"}
    assert metadata_of({"containerimage.descriptor": ""}, None) == {"containerimage.descriptor": ""}


# --- caches ---------------------------------------------------------------------------------------


def planned(*caches: CacheFrom | CacheTo) -> tuple[Caches, list[Event]]:
    told: list[Event] = []
    request = BuildRequest(
        context=".",
        cache_from=tuple(one for one in caches if isinstance(one, CacheFrom)),
        cache_to=tuple(one for one in caches if isinstance(one, CacheTo)),
    )
    return plan_caches(request, told.append), told


def layout(tmp_path: Path) -> tuple[Path, Descriptor]:
    (tmp_path / "tree").mkdir()
    blobs = Blobs(tmp_path / "store")
    made = make_image(blobs, [tmp_path / "tree"])
    write_oci_layout(str(tmp_path / "layout"), blobs.path, made, ["docker.io/library/x:latest"])
    return tmp_path / "layout", made


def test_a_cache_here_is_named_by_its_digest(tmp_path: Path) -> None:
    path, made = layout(tmp_path)
    registry = CacheFrom(type="registry", attrs={"ref": "r"})
    caches, told = planned(CacheFrom(type="local", src=str(path)), registry)
    entries = [(one.Type, dict(one.Attrs)) for one in caches.options.Imports]
    local = {"src": str(path), "digest": made.digest}
    assert entries == [("local", local), ("registry", {"ref": "r"})] and told == []
    assert caches.stores == {f"local:{path}": BlobDirectory(str(path))}
    assert json.loads(caches.attrs["cache-imports"]) == [
        {"Type": "local", "Attrs": local},
        {"Type": "registry", "Attrs": {"ref": "r"}},
    ]
    assert Caches().attrs == {}


def test_a_cache_that_is_not_there_is_a_warning_unless_it_may_be_empty(tmp_path: Path) -> None:
    missing = CacheFrom(type="local", src=str(tmp_path / "none"))
    caches, told = planned(missing)
    assert not len(caches.options.Imports) and caches.stores == {}
    (warning,) = told
    assert isinstance(warning, BuildWarning)
    assert warning.message.startswith(f"cannot import the cache from {tmp_path}/none: ")
    quiet = CacheFrom(type="local", src=str(tmp_path / "none"), may_be_empty=True)
    assert planned(quiet)[1] == []


def test_a_cache_to_write_has_its_directory_and_its_name(tmp_path: Path) -> None:
    dest = tmp_path / "cache"
    target = CacheTo(type="local", dest=str(dest), tag="t", attrs={"dest": str(dest)})
    caches, _ = planned(target)
    assert dest.is_dir() and caches.layouts == [(str(dest), "t")]
    assert caches.stores == {f"local:{dest}": BlobDirectory(str(dest), writable=True)}
    (entry,) = caches.options.Exports
    assert (entry.Type, dict(entry.Attrs)) == ("local", {"dest": str(dest)})
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").touch()
    with pytest.raises(UserError):
        planned(CacheTo(type="local", dest=str(tmp_path / "full"), tag="t"))


def test_a_cache_whose_blob_came_is_named(tmp_path: Path) -> None:
    data = b"{}"
    made = Descriptor(OCI_MANIFEST, Digest.of(data), len(data))
    answer = {"cache.manifest": json.dumps(made.to_json())}
    caches, _ = planned(CacheTo(type="local", dest=str(tmp_path / "c"), tag="t"))
    finish_caches(caches, answer)
    assert not (tmp_path / "c/index.json").exists()
    folder = tmp_path / "c/blobs/sha256"
    folder.mkdir(parents=True)
    (folder / made.digest.hex).write_bytes(data)
    finish_caches(caches, {})
    assert not (tmp_path / "c/index.json").exists()
    finish_caches(caches, answer)
    (entry,) = json.loads((tmp_path / "c/index.json").read_text())["manifests"]
    assert entry["digest"] == made.digest
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "t"}
    with pytest.raises(EnvironmentFault, match="the server describes a cache as '3'"):
        finish_caches(caches, {"cache.manifest": "3"})
    finish_caches(Caches(), {"cache.manifest": "3"})


# --- blobs ----------------------------------------------------------------------------------------


def put(store: Path, data: bytes) -> Digest:
    digest = Digest.of(data)
    folder = store / "blobs/sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / digest.hex).write_bytes(data)
    return digest


def called(handlers: Mapping[str, Handler], work: Callable[[Channel], Awaitable[object]]) -> object:
    async def run() -> object:
        async with channel(handlers) as opened:
            return await work(opened)

    return asyncio.run(run())


def reading(
    digest: str, offset: int = 0, size: int = 0, store: str = "s"
) -> Callable[[Channel], Awaitable[object]]:
    request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)

    async def read(opened: Channel) -> object:
        metadata = Metadata({"buildkit-attachable-store-id": store})
        found: list[tuple[int, bytes]] = []
        async with opened.stream(
            "/containerd.services.content.v1.Content/Read", metadata=metadata
        ) as call:
            await call.send(request.SerializeToString())
            await call.half_close()
            while (message := await call.receive()) is not None:
                answer = pb.ReadContentResponse.FromString(message)
                found.append((answer.offset, answer.data))
        return found

    return read


@pytest.mark.parametrize(
    ("offset", "size", "found"),
    [
        (0, 0, [(0, b"abcdef")]),
        (2, 0, [(2, b"cdef")]),
        (2, 3, [(2, b"cde")]),
        (4, 9, [(4, b"ef")]),
        (6, 0, []),
    ],
)
def test_parts_of_blobs_are_read(
    tmp_path: Path, offset: int, size: int, found: list[tuple[int, bytes]]
) -> None:
    handlers = content({"s": BlobDirectory(str(tmp_path))})
    assert called(handlers, reading(put(tmp_path, b"abcdef"), offset, size)) == found


@pytest.mark.parametrize(
    ("digest", "offset", "size", "store", "code"),
    [
        ("", 7, 0, "s", Code.OUT_OF_RANGE),
        ("", -1, 0, "s", Code.OUT_OF_RANGE),
        ("", 0, -1, "s", Code.OUT_OF_RANGE),
        (Digest.of(b"none"), 0, 0, "s", Code.NOT_FOUND),
        ("sha256:../../x", 0, 0, "s", Code.INVALID_ARGUMENT),
        ("", 0, 0, "other", Code.UNKNOWN),
    ],
)
def test_what_cannot_be_read_is_said(
    tmp_path: Path, digest: str, offset: int, size: int, store: str, code: Code
) -> None:
    handlers = content({"s": BlobDirectory(str(tmp_path))})
    blob = put(tmp_path, b"abcdef")
    with pytest.raises(RpcError) as caught:
        called(handlers, reading(digest or blob, offset, size, store))
    assert caught.value.code is code


def test_a_blob_comes_in_pieces_and_is_kept_once_it_is_what_it_should_be(tmp_path: Path) -> None:
    store = BlobDirectory(str(tmp_path / "s"), writable=True)
    (tmp_path / "s").mkdir()
    digest = Digest.of(b"abcd")
    ingest = Ingest(store)
    answer = ingest.take(pb.WriteContentRequest(action=pb.STAT, expected=digest, total=4))
    assert (answer.offset, answer.total, answer.digest) == (0, 4, "")
    assert ingest.take(pb.WriteContentRequest(action=pb.WRITE, data=b"ab")).offset == 2
    with pytest.raises(RpcError, match="offset is 0 instead of 2") as caught:
        ingest.take(pb.WriteContentRequest(action=pb.WRITE, data=b"cd"))
    assert caught.value.code is Code.OUT_OF_RANGE
    last = pb.WriteContentRequest(action=pb.COMMIT, data=b"cd", offset=2, total=4, expected=digest)
    answer = ingest.take(last)
    assert (answer.offset, answer.digest) == (4, digest)
    ingest.close()
    ingest.close()
    assert os.listdir(tmp_path / "s/blobs/sha256") == [digest.hex]
    assert Path(store.blob(digest)).read_bytes() == b"abcd"
    with pytest.raises(RpcError) as caught:
        Ingest(store).take(pb.WriteContentRequest(action=pb.STAT, expected=digest))
    assert caught.value.code is Code.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"expected": Digest.of(b"other")}, "unexpected digest"),
        ({"total": 3}, "2 bytes instead of 3"),
        ({"action": 9}, "unknown action 9"),
    ],
)
def test_a_blob_that_is_another_is_dropped(
    tmp_path: Path, more: dict[str, object], words: str
) -> None:
    ingest = Ingest(BlobDirectory(str(tmp_path), writable=True))
    ingest.take(pb.WriteContentRequest(action=pb.WRITE, data=b"a"))
    request = pb.WriteContentRequest(**{"action": pb.COMMIT, "data": b"b", "offset": 1, **more})  # type: ignore[arg-type]
    with pytest.raises(RpcError, match=words):
        ingest.take(request)
    ingest.close()
    assert os.listdir(tmp_path / "blobs/sha256") == []


# --- agents and uploads ---------------------------------------------------------------------------


def test_an_agent_is_there_by_its_id(tmp_path: Path) -> None:
    handlers = ssh({"default": str(tmp_path / "none"), "x": str(tmp_path / "none")})

    async def check(opened: Channel) -> object:
        for id in ("", "x"):
            request = CheckAgentRequest(ID=id).SerializeToString()
            await opened.unary("/moby.sshforward.v1.SSH/CheckAgent", request)
        with pytest.raises(RpcError, match="unset ssh forward key y") as caught:
            request = CheckAgentRequest(ID="y").SerializeToString()
            await opened.unary("/moby.sshforward.v1.SSH/CheckAgent", request)
        return caught.value.code

    assert called(handlers, check) is Code.NOT_FOUND


def test_an_upload_is_read_by_its_name() -> None:
    source = io.BytesIO(b"x" * ((1 << 18) + 1))

    async def pull(opened: Channel) -> object:
        sizes: list[int] = []
        async with opened.stream(PULL, metadata=Metadata({"urlpath": "/id"})) as call:
            await call.half_close()
            while (message := await call.receive()) is not None:
                sizes.append(len(unwrap(message)))
        with pytest.raises(RpcError, match="no upload 'other'"):
            async with opened.stream(PULL, metadata=Metadata({"urlpath": "other"})) as call:
                await call.half_close()
                await call.receive()
        return sizes

    assert called(upload({"id": lambda: source}), pull) == [1 << 18, 1]
    assert source.closed


# --- named servers --------------------------------------------------------------------------------


def parsed(**values: str) -> Parsed:
    made = Parsed()
    made.values = {name: [value] for name, value in values.items()}
    return made


def test_a_record_says_whether_it_needs_tls() -> None:
    plain = BuilderRecord("n", "tcp://a:1")
    assert (plain.shown, plain.uses_tls) == ("n (tcp://a:1)", False)
    assert BuilderRecord("", "tcp://a:1").shown == "tcp://a:1"
    for field in ("ca", "cert", "key", "server_name"):
        assert BuilderRecord("n", "a", **{field: "x"}).uses_tls


def test_records_are_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    assert records_file() == "/c/pybuild/builders.json"
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    assert records_file() == "/home/u/.config/pybuild/builders.json"


def test_a_command_line_has_the_last_word_on_files() -> None:
    record = BuilderRecord("n", "a", ca="/ca", cert="/cert", server_name="s")
    found = with_files(record, {"ca": "", "cert": "mine", "key": "k"}, "")
    assert (found.name, found.address, found.ca, found.server_name) == ("n", "a", "/ca", "s")
    assert (found.cert, found.key) == (os.path.abspath("mine"), os.path.abspath("k"))
    assert with_files(record, {}, "t").server_name == "t"
    options = parsed(tlscacert="a", tlscert="b", tlskey="c")
    assert tls_files(options) == {"ca": "a", "cert": "b", "key": "c"}


def test_records_come_back_as_they_were_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("PYBUILD_HOST", raising=False)
    builders = Builders.load()
    assert builders.known == {} and builders.in_use == ""
    builders.known["b"] = BuilderRecord("b", "tcp://b:1", ca="/a", key="/k", server_name="s")
    builders.in_use = "b"
    builders.save()
    again = Builders.load()
    one = again.get("b")
    assert (again.in_use, one.name, one.address) == ("b", "b", "tcp://b:1")
    assert (one.ca, one.cert, one.key, one.server_name) == ("/a", "", "/k", "s")
    found = chosen(parsed())
    assert found is not None and found.name == "b"
    given = chosen(parsed(host="unix:///s"))
    assert given is not None and (given.name, given.address, given.uses_tls) == (
        "",
        "unix:///s",
        False,
    )
    assert chosen(parsed(host="local")) is None
    with pytest.raises(UsageError, match='no builder "x"') as caught:
        chosen(parsed(host="x"))
    assert "did you mean" not in caught.value.message
    with pytest.raises(UsageError, match="TLS options need a server"):
        chosen(parsed(host="local", tlsservername="s"))
    os.chmod(records_file(), 0o666)
    with pytest.raises(UsageError, match="is not used"):
        Builders.load()
