"""Git repositories served for real, friendly and hostile [ADD-7..9, KEY-5, CTX-5]."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from pybuild.executor.sources.git import bundle_file
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.model.ops import GitSource
from tests.executor.gitsites import Remote, names
from tests.executor.sourcesites import SourceSite, on_site
from tests.gitservers import Repository
from tests.webservers import serving


def test_the_default_branch_without_its_git_directory(tmp_path: Path, remote: Remote) -> None:
    """[ADD-8]"""

    async def body(site: SourceSite) -> None:
        tree = await site.tree(remote.source())
        assert names(tree) == ["a.txt", "run.sh", "sub", "sub/b.txt", "sub/dir", "sub/dir/c"]
        modes = {name: (tree / name).stat().st_mode & 0o7777 for name in names(tree)}
        assert (modes["a.txt"], modes["run.sh"], modes["sub"]) == (0o644, 0o755, 0o755)
        assert (tree / "a.txt").read_text() == "2"
        assert tree.stat().st_mode & 0o7777 == 0o755

    on_site(tmp_path, body)


@pytest.mark.slow
def test_everything_that_can_name_a_commit(tmp_path: Path, remote: Remote) -> None:
    """[ADD-8]"""
    first, second = remote.first, remote.second
    refs = {
        "main": second,
        "refs/heads/main": second,
        "heads/main": second,
        "dev": first,
        "v1": first,
        "refs/tags/v1": first,
        first: first,
        second: second,
    }

    async def body(site: SourceSite) -> None:
        for ref, commit in refs.items():
            async with site.sources() as sources:
                found = await sources.git.resolve(remote.source(ref))
                assert found.commit == commit, ref
                snapshot = await sources.snapshot(remote.source(ref))
            tree = Path(site.store.deltas.path(snapshot.deltas[0]))
            assert (tree / "a.txt").read_text() == ("1" if commit == first else "2"), ref

    on_site(tmp_path, body)


@pytest.mark.slow
def test_a_name_of_both_is_the_branch(tmp_path: Path, remote: Remote) -> None:
    remote.repository.git("tag", "dev", remote.second)

    async def body(site: SourceSite) -> None:
        assert (await site.tree(remote.source("dev")) / "a.txt").read_text() == "1"
        assert (await site.tree(remote.source("refs/tags/dev")) / "a.txt").read_text() == "2"

    on_site(tmp_path, body)


def test_the_identity_is_the_commit_however_it_is_called(tmp_path: Path, remote: Remote) -> None:
    """[KEY-5]"""

    async def body(site: SourceSite) -> None:
        async with site.sources() as sources:
            refs = ("dev", "v1", remote.first)
            digests = {await sources.identify(remote.source(ref)) for ref in refs}
            assert len(digests) == 1
            assert await sources.identify(remote.source("main")) not in digests
            kept = [remote.source(ref, keep_git_dir=True) for ref in ("dev", "v1")]
            assert len({await sources.identify(op) for op in kept}) == 2

    on_site(tmp_path, body)


@pytest.mark.slow
def test_a_branch_that_moves_is_the_same_in_one_build(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        async with site.sources() as sources:
            before = await sources.identify(remote.source("main"))
            remote.repository.commit({"a.txt": "3"})
            assert await sources.identify(remote.source("main")) == before
            snapshot = await sources.snapshot(remote.source("main"))
        tree = Path(site.store.deltas.path(snapshot.deltas[0]))
        assert (tree / "a.txt").read_text() == "2"
        assert (await site.tree(remote.source("main")) / "a.txt").read_text() == "3"
        remote.repository.git("reset", "--quiet", "--hard", remote.first)  # a forced push
        remote.repository.commit({"a.txt": "4"})
        assert (await site.tree(remote.source("main")) / "a.txt").read_text() == "4"

    on_site(tmp_path, body)


def test_a_commit_that_is_here_needs_no_network(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        op = remote.source(remote.second)
        await site.tree(op)
        shutil.rmtree(remote.repository.path)
        assert (await site.tree(op) / "a.txt").read_text() == "2"
        with pytest.raises(EnvironmentFault, match="failed to fetch remote git://127"):
            await site.tree(remote.source("main"))

    on_site(tmp_path, body)


@pytest.mark.slow
def test_subdirectories(tmp_path: Path, remote: Remote) -> None:
    """[ADD-8]: their contents, whatever is done to get out of the tree."""
    os.symlink("/etc", remote.repository.path / "out")
    os.symlink("sub", remote.repository.path / "link")
    remote.repository.commit()

    async def body(site: SourceSite) -> None:
        assert names(await site.tree(remote.source(subdir="sub"))) == ["b.txt", "dir", "dir/c"]
        assert names(await site.tree(remote.source(subdir="sub/dir", keep_git_dir=True))) == ["c"]
        for subdir in ("out", "link", "link/dir", "a.txt", "none", "../..", "sub/../../x"):
            with pytest.raises(UserError, match="invalid subdir"):
                await site.tree(remote.source(subdir=subdir))
        links = {n: os.readlink(await site.tree(remote.source()) / n) for n in ("out", "link")}
        assert links == {"out": "/etc", "link": "sub"}

    on_site(tmp_path, body)


@pytest.mark.slow
def test_a_kept_git_directory_is_a_whole_repository(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        for ref, commit in (("main", remote.second), ("v1", remote.first), (remote.first, "")):
            tree = await site.tree(remote.source(ref, keep_git_dir=True))

            def git(*words: str, tree: Path = tree) -> str:
                done = subprocess.run(
                    ["git", "-c", "safe.directory=*", *words],
                    cwd=tree,
                    capture_output=True,
                    timeout=60,
                    check=True,
                )
                return done.stdout.decode().strip()

            assert git("rev-parse", "HEAD") == (commit or remote.first)
            assert git("status", "--porcelain") == ""
            assert git("fsck", "--full") == ""
            assert git("config", "remote.origin.url") == remote.url + "/r"
            if ref == "v1":
                assert git("describe", "--exact-match") == "v1"
            assert not any(str(site.store.root).encode() in path.read_bytes()
                           for path in (tree / ".git").rglob("*") if path.is_file())  # fmt: skip

    on_site(tmp_path, body)


@pytest.mark.slow
def test_checksums(tmp_path: Path, remote: Remote) -> None:
    """[ADD-8]"""

    async def body(site: SourceSite) -> None:
        for ref, checksum in (
            ("main", remote.second),
            ("main", remote.second[:8]),
            ("v1", remote.tag),
            ("v1", remote.first[:10]),
            (remote.first, remote.first[:5]),
        ):
            await site.tree(remote.source(ref, checksum=checksum))
        for ref in ("main", "v1", remote.second):
            with pytest.raises(UserError, match="expected checksum to match 0123, got "):
                await site.tree(remote.source(ref, checksum="0123"))
        with pytest.raises(UserError, match="invalid checksum zz for Git URL"):
            await site.tree(remote.source(checksum="zz"))
        by_commit = remote.source("other", checksum=remote.first, fetch_by_commit=True)
        assert (await site.tree(by_commit) / "a.txt").read_text() == "1"

    on_site(tmp_path, body)


@pytest.mark.slow
def test_times_of_the_commit(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        tree = await site.tree(remote.source(mtime="commit", subdir="sub"))
        assert {path.stat().st_mtime for path in [tree, *tree.rglob("*")]} == {1700000000}

    on_site(tmp_path, body)


@pytest.mark.parametrize(
    "ref",
    [
        "--upload-pack=touch /tmp/pwned",
        "-u",
        "a b",
        "main:refs/heads/x",
        "+main",
        "main^{tree}",
        "a..b",
        "HEAD@{1}",
        "refs/heads/*",
        "x\n--upload-pack=y",
    ],
)
def test_refs_that_are_more_than_a_name(tmp_path: Path, remote: Remote, ref: str) -> None:
    async def body(site: SourceSite) -> None:
        with pytest.raises(UserError, match="invalid git ref|does not contain ref"):
            await site.tree(remote.source(ref))

    on_site(tmp_path, body)


def test_what_is_not_there(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        with pytest.raises(UserError, match="repository does not contain ref nope: git://"):
            await site.tree(remote.source("nope"))
        with pytest.raises(UserError, match=f"does not contain ref {'0' * 12}"):
            await site.tree(remote.source("0" * 12))
        with pytest.raises(UserError, match="repository does not contain ref"):
            await site.tree(remote.source(remote.first[:7]))  # ADD-8: a part of an id is none
        with pytest.raises(PybuildError, match="0" * 40):
            await site.tree(remote.source("0" * 40))
        with pytest.raises(EnvironmentFault, match="failed to fetch remote"):
            await site.tree(replace(remote.source(), remote=remote.url + "/none"))
        for url in ("--upload-pack=x", "git://127.0.0.1\n/x"):
            with pytest.raises(UserError, match="invalid git repository"):
                await site.tree(replace(remote.source(), remote=url))

    on_site(tmp_path, body)


@pytest.mark.parametrize("url", ["/etc", "file:///etc", "ext::touch /tmp/pybuild-pwned"])
def test_only_network_protocols_are_spoken(tmp_path: Path, url: str) -> None:
    async def body(site: SourceSite) -> None:
        with pytest.raises(PybuildError, match=r"not allowed|failed to fetch|invalid git"):
            await site.tree(GitSource(remote=url))
        assert not os.path.exists("/tmp/pybuild-pwned")

    on_site(tmp_path, body)


@pytest.mark.slow
def test_submodules_come_along_unless_told_otherwise(tmp_path: Path, remote: Remote) -> None:
    inner = Repository(remote.base / "inner")
    inner.commit({"deep": "x"})
    middle = Repository(remote.base / "middle")
    middle.git("submodule", "--quiet", "add", "../inner", "in")  # relative to its own place
    middle.git("config", "-f", ".gitmodules", "submodule.in.url", "../inner")
    middle.commit({"m": "y"})
    remote.repository.git("submodule", "--quiet", "add", remote.url + "/middle", "mid")
    remote.repository.commit()

    async def body(site: SourceSite) -> None:
        tree = await site.tree(remote.source())
        assert (tree / "mid/in/deep").read_text() == "x"
        assert not [name for name in names(tree) if name.split("/")[-1] == ".git"]
        kept = await site.tree(remote.source(keep_git_dir=True))
        assert (kept / "mid/in/deep").read_text() == "x"
        without = await site.tree(remote.source(submodules=False))
        assert os.listdir(without / "mid") == []

    on_site(tmp_path, body)


@pytest.mark.slow
def test_submodules_of_a_server_of_plain_files(tmp_path: Path) -> None:
    """[ADD-8]: such a server cannot cut histories short."""
    base = tmp_path / "served"
    inner = Repository(base / "inner")
    inner.commit({"deep": "x"})
    outer = Repository(base / "outer")
    application = web.Application()
    application.router.add_static("/", base)
    with serving(application) as url:
        for repository in (inner, outer):
            repository.git("update-server-info")
        outer.git("submodule", "--quiet", "add", f"{url}/inner/.git", "in")
        outer.commit()
        outer.git("update-server-info")

        async def body(site: SourceSite) -> None:
            tree = await site.tree(GitSource(remote=f"{url}/outer/.git"))
            assert (tree / "in/deep").read_text() == "x"

        on_site(tmp_path, body)


@pytest.mark.slow
def test_a_commit_knows_when_it_was_made(tmp_path: Path, remote: Remote) -> None:
    """[REP-1]: also where a tag or a bare id stands for it."""

    async def body(site: SourceSite) -> None:
        for ref in ("", "v1", "dev", remote.first):
            async with site.sources() as sources:
                op = remote.source(ref)
                assert await sources.changed(op) == 1700000000
                found, (commit, tag) = await sources.git.resolve(op), await sources.git.objects(op)
            for kind, data, id in (("commit", commit, found.commit), ("tag", tag, found.object)):
                if data:  # whoever gets them can tell that they are those
                    head = f"{kind} {len(data)}\0".encode()
                    assert hashlib.sha1(head + data).hexdigest() == id
            assert bool(tag) is (ref == "v1")
        async with site.sources() as sources:
            with pytest.raises(UserError):
                await sources.changed(remote.source("nowhere"))

    on_site(tmp_path, body)


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["ext::sh -c 'touch /tmp/pybuild-pwned'", "file://{base}/r", "{base}/r", "-u./payload"]
)
def test_submodules_of_evil_places(tmp_path: Path, remote: Remote, url: str) -> None:
    repository = remote.repository
    evil = url.format(base=remote.base)
    (repository.path / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = {evil}\n\tupdate = !touch /tmp/pybuild-pwned\n'
        if url.startswith("-u")
        else f'[submodule "x"]\n\tpath = x\n\turl = {evil}\n'
    )
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{remote.first},x")
    repository.git("add", ".gitmodules")
    repository.git("commit", "--quiet", "-m", "evil")

    async def body(site: SourceSite) -> None:
        with pytest.raises(EnvironmentFault, match="failed to update submodules"):
            await site.tree(remote.source())
        assert not os.path.exists("/tmp/pybuild-pwned")
        # And the next one who wants a good commit finds nothing of it.
        assert (await site.tree(remote.source("dev")) / "a.txt").read_text() == "1"

    on_site(tmp_path, body)


@pytest.mark.slow
def test_what_a_tree_says_about_filters_and_hooks_is_not_run(
    tmp_path: Path, remote: Remote
) -> None:
    files = {
        ".gitattributes": "* filter=evil diff=evil\n",
        ".gitconfig": '[filter "evil"]\n\tsmudge = touch /tmp/pybuild-pwned\n',
        "hooks/post-checkout": "#!/bin/sh\ntouch /tmp/pybuild-pwned\n",
    }
    remote.repository.commit(files)
    os.chmod(remote.repository.path / "hooks/post-checkout", 0o755)
    remote.repository.commit()

    async def body(site: SourceSite) -> None:
        (site.root / "home/.gitconfig").write_text("[core]\n\tfsmonitor = touch /tmp/pybuild-pwned")
        for keep in (False, True):
            await site.tree(remote.source(keep_git_dir=keep))
        assert not os.path.exists("/tmp/pybuild-pwned")

    on_site(tmp_path, body)


@pytest.mark.slow
def test_builds_at_the_same_time_share_one_repository(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        refs = ("main", "dev", "v1", remote.first, remote.second)
        trees = await asyncio.gather(*(site.tree(remote.source(ref)) for ref in refs))
        assert [(tree / "a.txt").read_text() for tree in trees] == ["2", "1", "1", "1", "2"]
        assert len([n for n in os.listdir(site.store.mounts_dir) if n.startswith("git-")]) == 1

    on_site(tmp_path, body)


@pytest.mark.slow
def test_a_checkout_that_is_cancelled_leaves_nothing(tmp_path: Path, remote: Remote) -> None:
    async def body(site: SourceSite) -> None:
        for delay in (0.0, 0.02, 0.05, 0.1):
            async with site.sources() as sources:
                task = asyncio.create_task(sources.snapshot(remote.source("main")))
                await asyncio.sleep(delay)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        assert (await site.tree(remote.source("main")) / "a.txt").read_text() == "2"

    on_site(tmp_path, body)


@pytest.mark.slow
def test_commits_travel_in_a_bundle(tmp_path: Path, remote: Remote) -> None:
    """One build makes it, another one reads it and never asks the remote [ADD-7]."""

    async def body(site: SourceSite) -> None:
        made = await site.tree(remote.source("main", checksum=remote.second, as_bundle=True))
        assert names(made) == ["bundle"]
        data = (made / "bundle").read_bytes()
        listed = remote.repository.git("bundle", "list-heads", str(made / "bundle"))
        assert listed == f"{remote.second} refs/heads/main"
        url = f"oci-layout+blob://a/b@sha256:{hashlib.sha256(data).hexdigest()}"
        nowhere = GitSource(remote="http://127.0.0.1:1/r", bundle=url, checksum=remote.second)
        path = site.root / "store/tmp/sent"
        path.write_bytes(data)
        async with site.sources() as sources:
            await sources.http.adopt(str(path), len(data), bundle_file(nowhere))
        for ref in ("", remote.second, "main"):
            tree = await site.tree(replace(nowhere, ref=ref))
            assert (tree / "a.txt").read_text() == "2"
            assert not (tree / ".git").exists()
        kept = await site.tree(replace(nowhere, ref="main", keep_git_dir=True))
        assert (kept / ".git/HEAD").read_text().strip() == remote.second
        assert (kept / ".git/refs/heads/main").read_text().strip() == remote.second
        config = (kept / ".git/config").read_text()
        assert "http://127.0.0.1:1/r" in config
        for wrong, match in (
            (replace(nowhere, checksum="0" * 40), "0{40} not found in bundle"),
            (replace(nowhere, ref="dev"), "does not contain ref dev"),
            (replace(nowhere, ref="main", checksum=remote.first), "expected checksum to match"),
        ):
            with pytest.raises(PybuildError, match=match):
                await site.tree(wrong)

    on_site(tmp_path, body)
