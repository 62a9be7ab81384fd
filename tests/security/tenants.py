"""Two clients of one really running build server, and what each of them ever hears."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import ssl
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509

from pybuild.buildkit.pb import content as content_pb
from pybuild.buildkit.pb import control as pb
from pybuild.buildkit.pb import gateway
from pybuild.buildkit.pb import ops as llb
from pybuild.client.auth import auth
from pybuild.client.content import BlobDirectory, content
from pybuild.client.filesend import ToDirectory, file_send
from pybuild.client.filesync import file_sync
from pybuild.client.secrets import secrets as lend_secrets
from pybuild.client.session import ClientSession
from pybuild.net.grpc.channel import Channel
from pybuild.net.grpc.metadata import Metadata
from pybuild.net.grpc.status import RpcError
from pybuild.registry.client.credentials import Credential
from tests.daemon.buildsites import CONTROL, Daemon
from tests.daemon.identities import Authority, Signed, subject
from tests.daemon.libraries import Library, library
from tests.harness import Pybuild, make_base
from tests.ports import free_ports
from tests.webservers import Site as WebSite
from tests.webservers import site as web_site

BRIDGE = "/moby.buildkit.v1.frontend.LLBBridge/"
CONTENT = "/containerd.services.content.v1.Content/"
EXPLAIN = "/pybuild.v1.Explain/Reports"
UIDS = {"a": 3001, "b": 3002}


class Login:
    """One user's password for whatever registry asks."""

    problems: Sequence[str] = ()

    def __init__(self, user: str, password: str) -> None:
        self._found = Credential(username=user, password=password)

    async def find(self, host: str, path: str = "") -> Credential | None:
        del host, path
        return self._found


@dataclass
class Outcome:
    """How a build ended.

    Attributes:
        files: texts of what came out, by path.
        error: empty where it ended well.
        cached: names of the steps that did not run.
        exported: what the exporters say.
    """

    files: dict[str, str] = field(default_factory=dict[str, str])
    error: str = ""
    cached: list[str] = field(default_factory=list[str])
    ran: list[str] = field(default_factory=list[str])
    exported: dict[str, str] = field(default_factory=dict[str, str])
    ref: str = ""


class Tenant:
    """One client; *seen* is all that the server has ever told it."""

    def __init__(self, name: str, channel: Channel, folder: Path, frontend: str) -> None:
        self.name = name
        self.channel = channel
        self.seen = bytearray()
        self._folder = folder
        self._frontend = frontend

    async def ask(self, method: str, request: bytes = b"", **metadata: str) -> bytes:
        """Call, and return the answer; empty where it is refused."""
        try:
            told = Metadata({"buildkit-controlapi-buildid": metadata["ref"]} if metadata else {})
            answer = await self.channel.unary(method, request, metadata=told, timeout=60)
        except RpcError as error:
            self.seen += error.message.encode() + error.details
            return b""
        self.seen += answer
        return answer

    async def stream(self, method: str, request: bytes) -> list[bytes]:
        """Call, and return all that comes."""
        found: list[bytes] = []
        try:
            async with asyncio.timeout(60), self.channel.stream(method) as call:
                await call.send(request)
                await call.half_close()
                while (message := await call.receive()) is not None:
                    found.append(message)
                    self.seen += message
        except (RpcError, TimeoutError) as error:
            self.seen += str(error).encode()
        return found

    async def history(self, ref: str = "") -> list[pb.BuildHistoryRecord]:
        request = pb.BuildHistoryRequest(EarlyExit=True, Ref=ref).SerializeToString()
        events = await self.stream(CONTROL + "ListenBuildHistory", request)
        return [pb.BuildHistoryEvent.FromString(data).record for data in events]

    async def content(self, digest: str) -> bytes:
        request = content_pb.ReadContentRequest(digest=digest).SerializeToString()
        messages = await self.stream(CONTENT + "Read", request)
        return b"".join(content_pb.ReadContentResponse.FromString(data).data for data in messages)

    async def build(
        self,
        dockerfile: str,
        files: Mapping[str, str] | None = None,
        *,
        attrs: Mapping[str, str] | None = None,
        mode: str = "",
        tag: str = "",
        login: tuple[str, str] | None = None,
        lent: Mapping[str, str] | None = None,
        layouts: Mapping[str, Path] | None = None,
        definition: llb.Definition | None = None,
        frontend: str = "",
        shared_key: str = "",
        cache: pb.CacheOptions | None = None,
    ) -> Outcome:
        """Build a Dockerfile, or a definition; what comes out goes to a directory.

        Args:
            mode: how images are looked for; empty: as by default.
            tag: the image stays in the store under this name, too.
            login: user and password for registries.
            lent: secrets.
            layouts: directories that the client offers as content stores.
        """
        where = Path(tempfile.mkdtemp(dir=self._folder))
        for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
            path = where / "context" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        out = where / "out"
        outcome = Outcome(ref=os.urandom(8).hex())
        exporters = [pb.Exporter(Type="local")]
        if tag:
            exporters.append(pb.Exporter(Type="image", Attrs={"name": tag}))
        context = str(where / "context")
        offered = {
            **file_sync({"context": context, "dockerfile": context}),
            **file_send({0: ToDirectory(str(out))}),
        }
        if login:
            offered |= auth(Login(*login))
        if lent:
            offered |= lend_secrets({id: str.encode(text).__bytes__ for id, text in lent.items()})
        if layouts:
            stores = {
                name: BlobDirectory(str(path), writable=True) for name, path in layouts.items()
            }
            offered |= content(stores)
        given = {**({"image-resolve-mode": mode} if mode else {}), **(attrs or {})}
        frontend = frontend or self._frontend
        request = pb.SolveRequest(Ref=outcome.ref, Exporters=exporters, Cache=cache)
        if definition is not None:
            request.Definition.CopyFrom(definition)
        elif frontend == "builtin":
            request.Frontend = "dockerfile.v0"
        for name, value in given.items():
            request.FrontendAttrs[name] = value
        try:
            async with ClientSession(offered, shared_key=shared_key).open(self.channel) as session:
                request.Session = session.id
                watching = asyncio.create_task(self._watch(outcome))
                driving = None
                if definition is None and frontend == "client":
                    driving = asyncio.create_task(self._drive(outcome.ref, given))
                try:
                    data = await self.channel.unary(
                        CONTROL + "Solve", request.SerializeToString(), timeout=120
                    )
                    self.seen += data
                    answer = pb.SolveResponse.FromString(data)
                    outcome.exported = dict(answer.ExporterResponse)
                finally:
                    if driving is not None:
                        await driving
                    await asyncio.wait_for(watching, 60)
        except RpcError as error:
            outcome.error = error.message or "refused"
            self.seen += error.message.encode() + error.details
        for path in sorted(out.rglob("*")) if out.exists() else ():
            if path.is_file() and not path.is_symlink() and path.name != "busybox":
                data = path.read_bytes()
                self.seen += data
                outcome.files[str(path.relative_to(out))] = data.decode(errors="replace")
        shutil.rmtree(where, ignore_errors=True)
        return outcome

    async def _drive(self, ref: str, attrs: Mapping[str, str]) -> None:
        """Do what a frontend does that runs in the client."""
        metadata = Metadata({"buildkit-controlapi-buildid": ref})
        asked = gateway.SolveRequest(
            Frontend="dockerfile.v0",
            FrontendOpt=attrs,
            allowResultReturn=True,
            allowResultArrayRef=True,
            Evaluate=True,
        )
        end = gateway.ReturnRequest()
        try:
            data = await self.channel.unary(
                BRIDGE + "Solve", asked.SerializeToString(), metadata=metadata, timeout=120
            )
            self.seen += data
            end.result.CopyFrom(gateway.SolveResponse.FromString(data).result)
        except RpcError as error:
            self.seen += error.message.encode() + error.details
            end.error.code, end.error.message = int(error.code), error.message
        try:
            await self.channel.unary(
                BRIDGE + "Return", end.SerializeToString(), metadata=metadata, timeout=60
            )
        except RpcError:
            pass  # the build has ended

    async def _watch(self, outcome: Outcome) -> None:
        request = pb.StatusRequest(Ref=outcome.ref).SerializeToString()
        latest: dict[str, pb.Vertex] = {}
        for data in await self.stream(CONTROL + "Status", request):
            for vertex in pb.StatusResponse.FromString(data).vertexes:
                latest[vertex.digest] = vertex
        outcome.cached = [one.name for one in latest.values() if one.cached]
        outcome.ran = [one.name for one in latest.values() if not one.cached]


@dataclass
class Stage:
    """A server, two clients, and what lies around it.

    Attributes:
        hub: what Docker Hub has; anybody may read it but for the repositories with passwords.
        web: files by http(s).
        share: what clients of the server share.
    """

    pybuild: Pybuild
    hub: Library
    web: WebSite
    share: str
    kind: str
    frontend: str
    folder: Path
    authority: Authority | None = None
    papers: Mapping[str, Signed] = field(default_factory=dict[str, Signed])
    daemon: Daemon | None = None
    address: str = ""

    @asynccontextmanager
    async def tenants(self) -> AsyncGenerator[tuple[Tenant, Tenant]]:
        """Connect both."""
        async with AsyncExitStack() as stack:
            found: list[Tenant] = []
            for name in ("a", "b"):
                channel = await self._connect(name)
                stack.push_async_callback(channel.close)
                found.append(Tenant(name, channel, self.folder, self.frontend))
            yield found[0], found[1]

    async def _connect(self, name: str) -> Channel:
        if self.kind == "socket":
            # The kernel notes who connects.
            os.seteuid(UIDS[name])
            try:
                return await Channel.connect(self.address)
            finally:
                os.seteuid(0)
        assert self.authority is not None
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.load_cert_chain(self.papers[name].certificate, self.papers[name].key)
        return await Channel.connect(self.address, ssl=context, server_hostname="localhost")

    def restart(self) -> None:
        """End the server and begin it again on the same store."""
        self.end()
        self.begin()

    def begin(self) -> None:
        words: list[str] = []
        path = self.folder / "d.sock"
        if self.authority is not None:
            server = self.papers["server"]
            words = ["--tlscert", str(server.certificate), "--tlskey", str(server.key)]
            words += ["--tlscacert", str(self.authority.file)]
            self.address = f"tcp://127.0.0.1:{free_ports()[0]}"
            words += ["--addr", self.address]
        self.daemon = Daemon(self.pybuild, path, *words, lifetime_s=1800)
        self.daemon.wait_ready()
        if self.kind == "socket":
            self.address = self.daemon.address
            path.chmod(0o666)

    def end(self) -> None:
        if self.daemon is not None and self.daemon.process.poll() is None:
            self.daemon.stop()


@contextmanager
def stage(share: str, kind: str, frontend: str) -> Generator[Stage]:
    """Run a server whose clients share *share*, reached by *kind*: ``socket`` or ``tls``."""
    folder = Path(tempfile.mkdtemp(prefix="pybuild-tenants-"))
    folder.chmod(0o711)  # other users reach the socket, and nothing else
    try:
        with library() as hub, web_site() as web:
            maker = Pybuild(folder / "maker")
            make_base(maker, folder / "base", "base")
            name = "docker.io/library/base:latest"
            hub.of_store(maker.store, name, "library/base", "latest")
            config = folder / "pybuild.toml"
            config.write_text(
                f'[registry."docker.io"]\nmirrors = ["{hub.host}"]\n[daemon]\nshare = "{share}"\n'
            )
            made = Stage(Pybuild(folder / "store", config), hub, web, share, kind, frontend, folder)
            if kind == "tls":
                made.authority = Authority(folder, "ca")
                made.papers = {
                    "server": made.authority.sign(
                        subject(("CN", "server")), x509.DNSName("localhost")
                    ),
                    **{one: made.authority.sign(subject(("CN", one))) for one in UIDS},
                }
            made.begin()
            try:
                yield made
            finally:
                made.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def marker(kind: str = "private") -> str:
    """Return a text that stands nowhere else."""
    return f"{kind}-{secrets.token_hex(12)}"
