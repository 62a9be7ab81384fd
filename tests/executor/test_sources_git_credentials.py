"""Credentials and host keys of git repositories [ADD-9, SEC-3, SEC-7]."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from pybuild.executor.sources.agents import SshAgent
from pybuild.model.errors import EnvironmentFault, PybuildError
from pybuild.model.ops import GitSource
from tests.executor.gitsites import Remote, names
from tests.executor.sourcesites import SourceSite, on_site
from tests.gitservers import Repository, http_backend, make_key, sshd

pytestmark = pytest.mark.slow


@asynccontextmanager
async def over_http(application: web.Application) -> AsyncGenerator[str]:
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    "name", ["GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.{host}", "GIT_AUTH_HEADER", "url"]
)
def test_credentials_over_http(tmp_path: Path, remote: Remote, name: str) -> None:
    """[ADD-9, SEC-3]"""
    user = "x-access-token" if name.startswith("GIT_AUTH_TOKEN") else "me"
    header = "basic " + base64.b64encode(f"{user}:hunter22".encode()).decode()

    async def body(site: SourceSite) -> None:
        async with over_http(http_backend(remote.base, header)) as host:
            op = GitSource(remote=f"http://{host}/r")
            with pytest.raises(EnvironmentFault) as caught:
                await site.tree(op)
            assert "GIT_AUTH_TOKEN" in caught.value.hints[0]
            if name == "url":
                op = GitSource(remote=f"http://me:hunter22@{host}/r")
            else:
                value = header if "HEADER" in name else "hunter22"
                site.secrets[name.format(host=host)] = lambda: value.encode()
            for keep in (False, True):
                tree = await site.tree(replace(op, keep_git_dir=keep))
                assert (tree / "a.txt").read_text() == "2"
            site.secrets["GIT_AUTH_HEADER." + host] = lambda: b"basic hunter33"
            with pytest.raises(EnvironmentFault) as caught:
                await site.tree(op)
            assert "hunter" not in caught.value.message
        site.store.records.close()
        encoded = header.split()[1].encode()
        for path in Path(site.store.root).rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                assert b"hunter22" not in data and encoded not in data

    on_site(tmp_path, body)


def test_credentials_do_not_follow_redirects(tmp_path: Path, remote: Remote) -> None:
    seen: list[str | None] = []

    async def trap(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.Response(status=404)

    async def body(site: SourceSite) -> None:
        far = web.Application()
        far.router.add_route("*", "/{path:.*}", trap)
        async with over_http(far) as far_host:

            async def redirect(request: web.Request) -> web.StreamResponse:
                place = f"http://{far_host}{request.path_qs}"
                return web.Response(status=302, headers={"Location": place})

            near = web.Application()
            near.router.add_route("*", "/{path:.*}", redirect)
            async with over_http(near) as host:
                site.secrets["GIT_AUTH_TOKEN"] = lambda: b"hunter22"
                with pytest.raises(EnvironmentFault, match="failed to fetch"):
                    await site.tree(GitSource(remote=f"http://{host}/r"))
        assert not any(seen)

    on_site(tmp_path, body)


def test_a_token_is_in_no_argument_vector(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """[SEC-7]: looked at while git talks to the server."""
    lines: list[bytes] = []

    async def body(site: SourceSite) -> None:
        header = "basic " + base64.b64encode(b"x-access-token:hunter22").decode()
        application = http_backend(remote.base, header)

        @web.middleware
        async def look(request: web.Request, handler: Handler) -> web.StreamResponse:
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    lines.append(entry.read_bytes())
                except OSError:
                    continue
            return await handler(request)

        application.middlewares.append(look)
        async with over_http(application) as host:
            site.secrets["GIT_AUTH_TOKEN"] = lambda: b"hunter22"
            await site.tree(GitSource(remote=f"http://{host}/r"))
        text = b"\n".join(lines)
        assert b"remote-http" in text or b"ls-remote" in text
        assert b"hunter22" not in text
        assert header.split()[1].encode() not in text

    on_site(tmp_path, body)


def test_host_keys_of_the_definition_count_beside_the_users(tmp_path: Path) -> None:
    """A client that sends definitions knows hosts that this machine's user does not."""
    key = make_key(tmp_path / "key")
    repository = Repository(tmp_path / "r.git")
    repository.commit({"a": "1"})

    async def body(site: SourceSite) -> None:
        ssh = [SshAgent(id="default", keys=(("key", key.read_bytes()),))]
        with sshd(tmp_path / "sshd", key) as server:
            source = GitSource(remote=f"ssh://{server.login}{repository.path}")
            host, kind, _ = server.known_hosts.split()[:3]
            stranger = make_key(tmp_path / "stranger").with_suffix(".pub").read_text().split()[1]
            with pytest.raises(PybuildError, match="Host key verification failed"):
                await site.tree(replace(source, known_hosts=f"{host} {kind} {stranger}"), ssh=ssh)
            tree = await site.tree(replace(source, known_hosts=server.known_hosts), ssh=ssh)
            assert names(tree) == ["a"]

    on_site(tmp_path, body)
