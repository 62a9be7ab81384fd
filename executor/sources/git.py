"""Git repositories as sources: what a ref stands for, and its tree as a snapshot [ADD-7..9].

The work is done by workers (`gitjobs`); here is decided what they get: the credentials, the
repository in the store that they fetch into, and the lock that it needs.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from pybuild.cache.content.leases import Lease
from pybuild.cache.store import Store
from pybuild.executor.sources.agents import AgentSocket
from pybuild.executor.sources.gitvalues import Checkout, GitCommit, GitRemote
from pybuild.executor.sources.waiting import Once
from pybuild.executor.steps.execop import Secrets, header_text, looked_up, no_agent
from pybuild.executor.trees.flocks import locked
from pybuild.executor.workers.job import Answer, Job, WorkerModule, job
from pybuild.executor.workers.workers import Workers
from pybuild.model.dataclass import dataclass
from pybuild.model.digest import Digest
from pybuild.model.errors import UserError
from pybuild.model.ops import GitSource, HttpSource
from pybuild.model.snapshot import Snapshot

if TYPE_CHECKING:
    from pybuild.executor.sources import gitjobs
else:
    gitjobs = WorkerModule("pybuild.executor.sources.gitjobs")

CHECKOUT = "source.git.checkout"
_COMMITTED = re.compile(rb"^committer .*> (\d{1,15}) [+-]\d{4}$", re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{40}\Z|[0-9a-f]{64}\Z")
_HEX = re.compile(r"[0-9a-fA-F]+\Z")
_SCP = re.compile(r"[a-zA-Z0-9_-]+@([a-zA-Z0-9.-]+):")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_GITHUB = ("https://github.com/", "https://www.github.com/")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Access:
    """How a remote is reached.

    Attributes:
        url: without credentials; *shown* is for messages.
        header: the Authorization header for everything below *scope*.
        known_hosts: lines that the definition adds to those of the user.
    """

    url: str
    shown: str
    scope: str = ""
    header: str = ""
    is_ssh: bool = False
    hidden: tuple[str, ...] = ()
    known_hosts: str = ""


class GitTrees:
    """The git sources of one build; a ref stands for the same commit throughout it.

    Args:
        bundle: returns the path of a source's bundle.
    """

    def __init__(
        self,
        store: Store,
        workers: Workers,
        lease: Lease,
        *,
        secrets: Secrets,
        agents: Mapping[str, AgentSocket],
        bundle: Callable[[GitSource], Awaitable[str]],
        environ: Mapping[str, str],
        proves: bool = False,
    ) -> None:
        self._store = store
        self._workers = workers
        self._lease = lease
        self._secrets = secrets
        self._agents = agents
        self._bundle = bundle
        self._environ = environ
        self._proves = proves
        self._commits = Once[GitSource, GitCommit]()

    async def identify(self, op: GitSource) -> Digest:
        """Return a digest of the commit that *op* stands for [KEY-5].

        Raises:
            UserError: no such ref, or the checksum is another. EnvironmentFault: unreachable.
        """
        commit = await self.resolve(op)
        identity = {"git": commit.commit}
        if op.keep_git_dir:
            identity |= {"git": commit.object, "ref": commit.ref}
        if op.as_bundle:
            identity |= {"bundle": _bundle_ref(op.ref)}
        return Digest.of_json(identity)

    async def resolve(self, op: GitSource) -> GitCommit:
        """Return the commit of *op*; asks the remote at most once."""
        return await self._commits.ask(op, lambda: self._resolve(op))

    async def _resolve(self, op: GitSource) -> GitCommit:
        _check(op)
        # Who has a bundle has it all; others show that they may read the remote.
        asks = self._proves and not op.bundle
        if asks and (_COMMIT.match(op.ref) or op.fetch_by_commit):
            await self.resolve(replace(op, ref="", checksum="", fetch_by_commit=False))
        if _COMMIT.match(op.ref):
            if op.checksum and not op.ref.startswith(op.checksum):
                raise UserError(f"expected checksum to match {op.checksum}, got {op.ref}")
            return GitCommit(op.ref, op.ref, "")
        if op.bundle and not op.ref:
            if not _COMMIT.match(op.checksum):
                raise UserError(
                    f'a git bundle without a ref requires a full commit SHA, got "{op.checksum}"'
                )
            return GitCommit(op.checksum, op.checksum, "")
        if op.fetch_by_commit:
            if not _COMMIT.match(op.checksum):
                raise UserError(
                    f'fetch-by-commit requires a full commit SHA checksum, got "{op.checksum}"'
                )
            ref = op.ref if not op.ref or op.ref.startswith("refs/") else "refs/heads/" + op.ref
            return GitCommit(op.checksum, op.checksum, ref)
        access = await looked_up(self._secrets, partial(self._access, op))
        async with self._mirror(op) as mirror:
            commit = await self._call(
                op, access, mirror, lambda remote: job(gitjobs.resolve, remote, op.ref)
            )
        names = list(dict.fromkeys((commit.object, commit.commit)))
        if op.checksum and not any(name.startswith(op.checksum) for name in names):
            raise UserError(f"expected checksum to match {op.checksum}, got {' or '.join(names)}")
        return commit

    async def snapshot(self, op: GitSource) -> Snapshot:
        """Return the tree of *op*.

        Raises:
            UserError: there is no such commit or subdirectory. EnvironmentFault: unreachable.
        """
        resolved = await self.resolve(op)
        access = await looked_up(self._secrets, partial(self._access, op))
        store = self._store
        scratch = store.scratch("git")
        await asyncio.to_thread(os.mkdir, scratch, 0o700)
        active = await asyncio.to_thread(store.deltas.begin)
        try:
            async with self._mirror(op) as mirror:
                commit = resolved if op.keep_git_dir else resolved._replace(object=resolved.commit)
                wish = Checkout(
                    target=active.fs,
                    scratch=scratch,
                    subdir=op.subdir.strip("/"),
                    keep_git_dir=op.keep_git_dir,
                    submodules=op.submodules,
                    mtime=op.mtime,
                    # A bare id was compared already; a tag's own id is not what is fetched.
                    checksum=op.checksum if not resolved.ref else "",
                    bundle=_bundle_ref(op.ref) if op.as_bundle else "",
                )
                await self._call(
                    op,
                    access,
                    mirror,
                    lambda remote: job(gitjobs.checkout, remote, commit, wish),
                    writes=active.fs,
                )
        except BaseException:
            store.deltas.abort(active)
            raise
        finally:
            store.discard(scratch)
        meta = {"type": CHECKOUT}
        delta = await asyncio.to_thread(store.deltas.commit, active, None, meta, self._lease)
        return Snapshot((delta,))

    async def objects(self, op: GitSource) -> tuple[bytes, bytes]:
        """Return the commit of *op* as git has it, and the annotated tag, if there is one.

        Raises:
            UserError: there is no such commit. EnvironmentFault: unreachable.
        """
        commit = await self.resolve(op)
        access = await looked_up(self._secrets, partial(self._access, op))
        async with self._mirror(op) as mirror:
            return await self._call(
                op, access, mirror, lambda remote: job(gitjobs.objects, remote, commit)
            )

    async def commit_time(self, op: GitSource) -> int | None:
        """Return when the commit of *op* was made, in seconds; None where it does not say.

        Raises:
            UserError: there is no such commit. EnvironmentFault: unreachable.
        """
        commit, _ = await self.objects(op)
        made = _COMMITTED.search(commit.partition(b"\n\n")[0])
        return int(made[1]) if made else None

    async def close(self) -> None:
        """End questions to remotes that nobody waits for any more."""
        await self._commits.stop()

    def _mirror(self, op: GitSource) -> _Mirror:
        # What somebody brings in a bundle is not mixed with what a remote has.
        url = op.bundle or _without_credentials(op.remote)[0]
        return _Mirror(self._store, self._lease, url)

    async def _call(
        self,
        op: GitSource,
        access: _Access,
        mirror: str,
        work: Callable[[GitRemote], Job[Answer]],
        *,
        writes: str = "",
    ) -> Answer:
        disk = os.statvfs(self._store.root)
        known_hosts, ssh_command = "", ""
        fds: list[int] = []
        if access.is_ssh and not op.bundle:
            agent = self._agents.get("default")
            if agent is None:
                raise no_agent("default")
            fds = [await agent.directory()]
            known_hosts = await asyncio.to_thread(self._known_hosts, access.known_hosts)
            ssh_command = _ssh_command(known_hosts)
        remote = GitRemote(
            url=access.url,
            shown=access.shown,
            mirror=mirror,
            scope=access.scope,
            header=access.header,
            hidden=access.hidden,
            environ=self._handed_on(),
            ssh_command=ssh_command,
            max_bytes=max(1 << 20, disk.f_bavail * disk.f_frsize * 19 // 20),
            bundle=await self._bundle(op) if op.bundle else "",
        )
        try:
            return await self._workers.call(work(remote), fds=fds, writes=writes)
        finally:
            if known_hosts:
                with suppress(FileNotFoundError):
                    os.unlink(known_hosts)

    def _handed_on(self) -> dict[str, str]:
        names = {"PATH", *_PROXIES, *(name.upper() for name in _PROXIES)}
        return {name: self._environ[name] for name in sorted(names) if name in self._environ}

    def _known_hosts(self, more: str) -> str:
        """Copy the user's known hosts: a changed key is refused, a new one never gets in there."""
        path = self._store.scratch("hosts")
        home = self._environ.get("HOME", "")
        data = b""
        if home:
            with suppress(OSError), open(os.path.join(home, ".ssh/known_hosts"), "rb") as file:
                data = file.read(4 << 20)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.write(b"\n" + more.encode("utf-8", "surrogateescape"))
        return path

    # --- credentials ------------------------------------------------------------------------------

    def _access(self, op: GitSource) -> _Access:
        url, userinfo = _without_credentials(op.remote)
        scp = _SCP.match(url)
        parts = None if scp else urlsplit(url)
        scheme = "ssh" if parts is None else parts.scheme.lower()
        shown = url
        if scheme not in ("http", "https"):
            return _Access(url=url, shown=shown, is_ssh=scheme == "ssh", known_hosts=op.known_hosts)
        assert parts is not None
        scope = next((prefix for prefix in _GITHUB if url.startswith(prefix)), url)
        hidden: list[str] = []
        header = ""
        if userinfo:
            user, _, password = userinfo.partition(":")
            header = _basic(unquote(user), unquote(password))
            hidden = [text for text in (userinfo, unquote(password), unquote(user)) if text]
        for name, is_token in _secret_names(parts.netloc):
            read = self._secrets.get(name)
            if read is None:
                continue
            value = header_text(name, read())
            header = _basic("x-access-token", value) if is_token else value
            hidden = [value]
            break
        return _Access(url=url, shown=shown, scope=scope, header=header, hidden=tuple(hidden))


def bundle_file(op: GitSource) -> HttpSource:
    """Return the source of the bundle of *op*."""
    digest = Digest.parse(op.bundle.rpartition("@")[2])
    return HttpSource(url=op.bundle, checksum=digest, filename="bundle")


def _bundle_ref(ref: str) -> str:
    """Return the name that the commit of *ref* gets in a bundle: one by which a bundle can be fetched."""
    if not ref or _COMMIT.match(ref):
        return "refs/heads/main"
    if ref.startswith("refs/tags/"):
        return ref
    return "refs/heads/" + ref.removeprefix("refs/").removeprefix("heads/")


def _check(op: GitSource) -> None:
    """Refuse what git could take for something else than a name.

    Raises:
        UserError: it is no ref, or no commit id.
    """
    if op.ref.startswith("-") or re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{", op.ref):
        raise UserError(f'invalid git ref "{op.ref}"')
    if op.checksum and not _HEX.match(op.checksum):
        raise UserError(f"invalid checksum {op.checksum} for Git URL, expected hex commit hash")
    if op.remote.startswith("-") or re.search(r"[\x00-\x1f\x7f]", op.remote):
        raise UserError(f'invalid git repository "{op.remote}"')
    if any(part == ".." for part in op.subdir.split("/")):
        raise UserError(f'invalid subdir "{op.subdir}"')


def _secret_names(netloc: str) -> list[tuple[str, bool]]:
    """Return the secrets that may hold credentials, most particular first; True for tokens."""
    return [
        (f"GIT_AUTH_HEADER.{netloc}", False),
        (f"GIT_AUTH_TOKEN.{netloc}", True),
        ("GIT_AUTH_HEADER", False),
        ("GIT_AUTH_TOKEN", True),
    ]


def _without_credentials(remote: str) -> tuple[str, str]:
    """Return an http(s) URL and the user part that stood in it; other remotes as they are."""
    if not remote.lower().startswith(("http://", "https://")):
        return remote, ""
    parts = urlsplit(remote)
    userinfo, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=host)), userinfo


def _ssh_command(known_hosts: str) -> str:
    options = {
        "BatchMode": "yes",
        "UserKnownHostsFile": f'"{known_hosts}"',
        # A host that was never seen is taken at its word, one that changed is not.
        "StrictHostKeyChecking": "accept-new",
        "IdentityFile": "/dev/null",
        "ForwardAgent": "no",
        "PermitLocalCommand": "no",
        "ControlPath": "none",
        "ConnectTimeout": "30",
        "ServerAliveInterval": "20",
        "LogLevel": "ERROR",
    }
    words = [f"-o '{name}={value}'" for name, value in options.items()]
    return " ".join(["ssh -F /dev/null", *words])


class _Mirror:
    """The remote's bare repository in the store, held by one build at a time.

    It lies among the cache mounts: it is one, as far as leases and pruning are concerned.
    """

    def __init__(self, store: Store, lease: Lease, url: str) -> None:
        self._store = store
        self._lease = lease
        self._url = url
        self._name = "git-" + hashlib.sha256(url.encode()).hexdigest()[:36]
        self._lock = locked(os.path.join(store.root, "locks", self._name))

    async def __aenter__(self) -> str:
        await self._lock.__aenter__()
        try:
            return await asyncio.to_thread(self._open)
        except BaseException as error:
            await self._lock.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._lock.__aexit__(kind, error, traceback)

    def _open(self) -> str:
        self._lease.add("mount", self._name)
        home = os.path.join(self._store.mounts_dir, self._name)
        os.makedirs(home, 0o700, exist_ok=True)
        facts = os.path.join(home, "meta.json")
        if not os.path.exists(facts):
            text = {"id": f"git {self._url}", "created": self._store.clock.now()}
            with open(facts, "w", encoding="utf-8") as file:
                json.dump(text, file)
        os.utime(home)  # when it was last of use
        return os.path.join(home, "fs")


def _basic(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header."""
    return "basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
