"""Outputs that a client of the build server gets: several platforms, fixed times [remote-api 7.3, OUT, REP]."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pybuild.client.content import BlobDirectory, content
from pybuild.client.filesend import ToDirectory, ToStream
from pybuild.client.upload import upload
from pybuild.executor.zygote import hierarchies
from pybuild.net.grpc.status import RpcError
from tests.daemon.buildsites import Built, Client, Daemon, daemon, on, pybuild_with_base
from tests.harness import write

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.slow]

EPOCH = 1673354096
SHOWN = "2023-01-10T12:34:56Z"
DOCKERFILE = """\
FROM scratch
ARG TARGETARCH TARGETPLATFORM
LABEL target=$TARGETPLATFORM
COPY $TARGETARCH /whoami
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Daemon]:
    found = pybuild_with_base(tmp_path_factory.mktemp("daemon"))
    with daemon(found, tmp_path_factory.mktemp("s")) as running:
        yield running


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "c", Dockerfile=DOCKERFILE, amd64="64", arm64="arm64", arm="arm")


class Kept(io.BytesIO):
    """A file of the client that stays readable."""

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    @property
    def tar(self) -> tarfile.TarFile:
        return tarfile.open(fileobj=io.BytesIO(self.getvalue()))

    def json(self, name: str) -> dict[str, Any]:
        with self.tar as tar:
            file = tar.extractfile(name)
            assert file is not None
            found: dict[str, Any] = json.load(file)
            return found


async def image(
    c: Client, context: Path | None, attrs: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the manifest and the config of what the client gets."""
    kept = Kept()
    target = {0: ToStream(lambda facts: kept)}
    await c.build(context, attrs=attrs, exporters=[("oci", given)], targets=target)
    entry = kept.json("index.json")["manifests"][0]
    manifest = kept.json("blobs/" + entry["digest"].replace(":", "/"))
    digest: str = manifest["config"]["digest"]
    return manifest, kept.json("blobs/" + digest.replace(":", "/"))


def test_a_directory_for_each_platform(server: Daemon, context: Path, tmp_path: Path) -> None:
    """OUT-5, REP-2."""

    async def use(c: Client) -> None:
        attrs = {"platform": "windows/amd64,linux/arm", "build-arg:SOURCE_DATE_EPOCH": "5"}
        target = {0: ToDirectory(str(tmp_path / "out"))}
        await c.build(context, attrs=attrs, exporters=[("local", {})], targets=target)

    on(server, use)
    found = {p.name: (p / "whoami").read_text() for p in (tmp_path / "out").iterdir()}
    assert found == {"linux_arm_v7": "arm", "windows_amd64": "64"}
    assert {path.stat().st_mtime for path in (tmp_path / "out").rglob("*")} == {5}


def test_one_directory_for_all_platforms(server: Daemon, context: Path, tmp_path: Path) -> None:
    """OUT-5."""
    target = {0: ToDirectory(str(tmp_path / "out"))}
    exporters = [("local", {"platform-split": "false"})]
    attrs = {"platform": "linux/amd64,linux/arm64"}

    async def use(c: Client) -> None:
        message = "cannot overwrite whoami from linux/amd64 with linux/arm64"
        with pytest.raises(RpcError, match=message):
            await c.build(context, attrs=attrs, exporters=exporters, targets=target)
        write(context, Dockerfile=DOCKERFILE.replace("/whoami", "/$TARGETARCH"))
        await c.build(context, attrs=attrs, exporters=exporters, targets=target)

    on(server, use)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["amd64", "arm64"]


def test_a_tar_of_several_platforms(server: Daemon, context: Path) -> None:
    """OUT-6."""
    kept = Kept()

    async def use(c: Client) -> None:
        attrs = {"platform": "linux/arm64,darwin/amd64"}
        target = {0: ToStream(lambda facts: kept)}
        await c.build(context, attrs=attrs, exporters=[("tar", {})], targets=target)

    on(server, use)
    names = ["darwin_amd64", "darwin_amd64/whoami", "linux_arm64", "linux_arm64/whoami"]
    with kept.tar as tar:
        assert tar.getnames() == names


def test_a_store_of_the_client_gets_the_blobs(
    server: Daemon, context: Path, tmp_path: Path
) -> None:
    """OUT-3: with ``tar=false`` the client writes the index itself, from what it is told."""
    store = tmp_path / "store"
    store.mkdir()

    async def use(c: Client) -> None:
        attrs = {"platform": "linux/amd64,linux/arm64", "build-arg:SOURCE_DATE_EPOCH": str(EPOCH)}
        given = {"tar": "false", "name": "org/repo:tag1,org/repo:tag2"}
        handlers = content({"export": BlobDirectory(str(store), writable=True)})
        exporters = [("oci", given)]
        await c.build(context, attrs=attrs, exporters=exporters, handlers=handlers)
        built = await c.build(context, attrs=attrs, exporters=exporters, handlers=handlers)
        assert built.response["image.name"] == "docker.io/org/repo:tag1,docker.io/org/repo:tag2"
        told = json.loads(base64.b64decode(built.response["containerimage.descriptor"]))
        assert told["annotations"] == {"org.opencontainers.image.created": SHOWN}
        index = json.loads((store / "blobs" / told["digest"].replace(":", "/")).read_bytes())
        for entry in index["manifests"]:
            manifest = json.loads(
                (store / "blobs" / entry["digest"].replace(":", "/")).read_bytes()
            )
            for blob in (manifest["config"], *manifest["layers"]):
                path = store / "blobs" / blob["digest"].replace(":", "/")
                assert path.stat().st_size == blob["size"]
        assert [entry["platform"]["architecture"] for entry in index["manifests"]] == [
            "amd64",
            "arm64",
        ]
        with pytest.raises(RpcError, match="offers no store"):
            await c.build(context, exporters=exporters)

    on(server, use)


@pytest.mark.parametrize(
    ("default", "attrs", "given", "created", "note"),
    [
        ("7", {}, {}, "1970-01-01T00:00:07Z", "7"),
        ("7", {"build-arg:SOURCE_DATE_EPOCH": "9"}, {}, "1970-01-01T00:00:09Z", "9"),
        ("7", {"build-arg:SOURCE_DATE_EPOCH": ""}, {}, "2", None),
        ("7", {}, {"source-date-epoch": ""}, "1970-01-01T00:00:07Z", None),
        ("7", {}, {"source-date-epoch": "5"}, "1970-01-01T00:00:05Z", "5"),
        ("context", {}, {}, "2", None),
    ],
)
def test_where_the_date_comes_from(
    server: Daemon,
    tmp_path: Path,
    default: str,
    attrs: dict[str, str],
    given: dict[str, str],
    created: str,
    note: str | None,
) -> None:
    """REP-1, REP-2: the file, the request, the exporter."""
    text = f"ARG SOURCE_DATE_EPOCH={default}\nFROM scratch\nCOPY Dockerfile /\n"
    context = write(tmp_path / "c", Dockerfile=text)

    async def use(c: Client) -> None:
        rewritten = {"rewrite-timestamp": "true", **given}
        manifest, config = await image(c, context, attrs, rewritten)
        (layer,) = manifest["layers"]
        assert layer.get("annotations", {}).get("buildkit/rewritten-timestamp") == note
        assert str(config["created"]).startswith(created)

    on(server, use)


def test_dates_that_are_none(server: Daemon, context: Path) -> None:
    async def use(c: Client) -> None:
        with pytest.raises(RpcError, match="invalid SOURCE_DATE_EPOCH: now"):
            await image(c, context, {"build-arg:SOURCE_DATE_EPOCH": "now"}, {})
        with pytest.raises(RpcError, match="invalid source-date-epoch: now"):
            await image(c, context, {}, {"source-date-epoch": "now"})

    on(server, use)


def test_an_uploaded_archive_has_its_files_time_and_directories(
    server: Daemon, tmp_path: Path
) -> None:
    """REP-1, CTX-1: ``contextsubdir`` is what COPY sees, the Dockerfile may be the client's."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo("sub/dir/foo")
        info.size, info.mtime = 1, EPOCH
        tar.addfile(info, io.BytesIO(b"x"))
    folder = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY foo /bar\n")
    handlers = upload({"up": lambda: io.BytesIO(data.getvalue())})
    attrs = {
        "context": "http://buildkit-session/up",
        "dockerfilekey": "dockerfile",
        "contextsubdir": "sub/dir",
        "build-arg:SOURCE_DATE_EPOCH": "context",
    }

    async def use(c: Client) -> None:
        out = tmp_path / "out"
        target = {0: ToDirectory(str(out))}
        exporters: list[tuple[str, dict[str, str]]] = [("local", {})]
        await c.build(folder, attrs=attrs, exporters=exporters, targets=target, handlers=handlers)
        assert (out / "bar").read_text() == "x"
        assert (out / "bar").stat().st_mtime == EPOCH

    on(server, use)


def test_hostname_of_steps(server: Daemon, tmp_path: Path) -> None:
    """EV-12: the attribute, and the build arg that wins over it."""
    text = "FROM base:1\nRUN cat /etc/hosts | busybox grep foo && busybox hostname | busybox grep foo\n"
    context = write(tmp_path / "c", Dockerfile=text)

    async def use(c: Client) -> None:
        await c.build(context, attrs={"hostname": "foo"})
        arg = {"build-arg:BUILDKIT_SANDBOX_HOSTNAME": "foo"}
        await c.build(context, attrs={"hostname": "bar", **arg})

    on(server, use)


def test_processes_of_steps(server: Daemon, tmp_path: Path) -> None:
    """SBX-13: the attribute of a limit, from any client."""
    if not any("pids" in h.controllers and not h.problem for h in hierarchies.hierarchies()):
        pytest.skip("no pids cgroup")
    text = "FROM base:1\nRUN for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done\n"
    context = write(tmp_path / "c", Dockerfile=text)

    async def use(c: Client) -> None:
        with pytest.raises(RpcError, match="out of processes"):
            await c.build(context, attrs={"pids": "5"})
        await c.build(context, attrs={"pids": "50"})

    on(server, use)


def test_a_version_of_windows_comes_back(server: Daemon, context: Path) -> None:
    """IMG-19."""

    async def use(c: Client) -> None:
        _, config = await image(c, context, {"platform": "windows(10.0.20348.1)/amd64"}, {})
        assert (config["os"], config["os.version"]) == ("windows", "10.0.20348.1")

    on(server, use)


@pytest.mark.parametrize(
    ("kind", "attrs", "words"),
    [
        ("bogus", {}, 'exporter "bogus" could not be found'),
        ("oci", {"compression": "lzma"}, 'output compression "lzma"'),
        ("image", {"push": "true"}, "tag is needed when pushing to registry"),
        ("image", {"name": "a:1", "push-by-digest": "true"}, "can't push tagged ref"),
    ],
)
def test_an_exporter_that_cannot_be_is_refused_before_anything_is_built(
    server: Daemon, context: Path, kind: str, attrs: dict[str, str], words: str
) -> None:
    async def use(c: Client) -> None:
        built = Built()
        with pytest.raises(RpcError, match=words):
            await c.build(context, exporters=[("image", {}), (kind, attrs)], built=built)
        assert not built.vertexes

    on(server, use)
