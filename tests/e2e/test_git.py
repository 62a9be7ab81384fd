"""Builds from git repositories: real servers by http, git's protocol and ssh [CTX-5, ADD-7..9, SEC-4]."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gitservers import Repository, git_daemon, http_backend, make_key, need_git, sshd
from tests.harness import Pybuild, write
from tests.webservers import serving

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

DOCKERFILE = "FROM scratch\nCOPY . /\n"


@dataclass(frozen=True)
class Served:
    """A repository, and where it is."""

    repository: Repository
    url: str


@pytest.fixture
def base_dir(tmp_path: Path) -> Path:
    need_git()
    path = tmp_path / "served"
    path.mkdir()
    return path


@pytest.fixture
def repository(base_dir: Path) -> Repository:
    """Two commits on main, a branch and a tag at the first; a second Dockerfile in a folder."""
    made = Repository(base_dir / "app.git")
    made.commit({"Dockerfile": DOCKERFILE, "a": "1", ".dockerignore": "a\n"})
    made.git("branch", "old")
    made.git("tag", "v1")
    made.commit({"a": "2", "sub/Dockerfile": "FROM scratch\nCOPY b /\n", "sub/b": "b"})
    made.commit({"sub/Other": "FROM scratch\nCOPY a /other\n"})
    return made


@pytest.fixture
def served(repository: Repository, base_dir: Path) -> Generator[Served]:
    with git_daemon(base_dir) as url:
        yield Served(repository, url + "/app.git")


def read(pybuild: Pybuild, tmp_path: Path, *words: str | Path, name: str = "a") -> str:
    """One file of what a build gives."""
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    pybuild("build", "-o", out, *words)
    return (out / name).read_text()


@pytest.mark.parametrize(
    ("words", "name", "text"),
    [
        (["URL"], "a", "2"),
        (["URL#old"], "a", "1"),
        (["URL?tag=v1"], "a", "1"),
        (["URL#:sub"], "b", "b"),
        (["URL?branch=main&subdir=sub"], "b", "b"),
        (["-f", "sub/Other", "URL"], "other", "2"),
    ],
)
def test_refs_subdirectories_and_files_of_a_repository(
    pybuild: Pybuild, served: Served, tmp_path: Path, words: list[str], name: str, text: str
) -> None:
    """CTX-1, CTX-5, BLD-2, IGN-2: the ignore file means nothing; `--file` is the repository's."""
    words = [word.replace("URL", served.url) for word in words]
    assert read(pybuild, tmp_path, *words, name=name) == text
    assert not (tmp_path / "out/.git").exists()


def test_what_a_repository_does_not_have(pybuild: Pybuild, served: Served) -> None:
    assert "repository does not contain ref nope" in (
        pybuild("build", f"{served.url}#nope", code=1).err
    )
    assert "failed to read dockerfile: open Other" in (
        pybuild("build", "-f", "Other", served.url, code=1).err
    )
    assert "ref conflicts" in pybuild("build", f"{served.url}?ref=a#b", code=1).err


def test_a_branch_that_moved_is_seen_by_the_next_build(pybuild: Pybuild, served: Served) -> None:
    """KEY-5: nothing is fetched again while it stands."""
    first = pybuild("build", "-q", "-t", "app", served.url).out
    again = pybuild("build", "-t", "app", served.url).err
    assert f"load git source {served.url}\n#1 CACHED" in again
    served.repository.commit({"a": "3"})
    assert pybuild("build", "-q", "-t", "app", served.url).out != first


@pytest.mark.parametrize("how", ["add", "named"])
def test_a_moved_branch_is_seen_though_all_files_here_are_the_same(
    pybuild: Pybuild, served: Served, tmp_path: Path, how: str
) -> None:
    """KEY-5, NC-1: the memo answers for no branch."""
    line = f"ADD {served.url} /" if how == "add" else "COPY --from=src a /"
    context = write(tmp_path / "ctx", Dockerfile=f"FROM scratch\n{line}\n")
    words = ("-q", "-t", "app", "--build-context", f"src={served.url}", context)
    first = pybuild("build", *words).out
    assert pybuild("build", *words).out == first
    served.repository.commit({"a": "3"})
    assert pybuild("build", *words).out != first


def test_a_commit_needs_no_second_look(pybuild: Pybuild, served: Served, tmp_path: Path) -> None:
    """ADD-8, KEY-5: the memo may answer for it."""
    commit = served.repository.git("rev-parse", "v1")
    context = write(tmp_path / "ctx", Dockerfile=f"FROM scratch\nADD {served.url}#{commit} /\n")
    first = pybuild("build", "-q", "-t", "app", context).out
    shutil.rmtree(served.repository.path)
    assert pybuild("build", "-q", "-t", "app", context).out == first


def test_the_git_directory_and_times_on_request(
    pybuild: Pybuild, served: Served, tmp_path: Path
) -> None:
    """CTX-5; with SOURCE_DATE_EPOCH files are as old as their commit, in all but private outputs."""
    keep = ("--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1")
    assert read(pybuild, tmp_path, *keep, served.url, name=".git/HEAD")
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1800000000")
    read(pybuild, tmp_path, *epoch, served.url)
    assert (tmp_path / "out/a").stat().st_mtime == 1_800_000_000  # REP-2
    own = f"type=local,dest={tmp_path}/own,source-date-epoch="
    pybuild("build", "-o", own, *epoch, served.url)
    assert (tmp_path / "own/a").stat().st_mtime == 1_700_000_000


def test_named_contexts_and_add_from_a_repository(
    pybuild: Pybuild, served: Served, tmp_path: Path
) -> None:
    """NC-1, ADD-7, E147."""
    text = f"FROM scratch\nCOPY --from=src a /copied\nADD {served.url}#old:/ /added/\n"
    text += f"ADD {served.url}#main:sub /d\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    words = ("--build-context", f"src={served.url}#main", context)
    assert read(pybuild, tmp_path, *words, name="copied") == "2"
    assert (tmp_path / "out/added/a").read_text() == "1"
    assert sorted(path.name for path in (tmp_path / "out/d").iterdir()) == [
        "Dockerfile",
        "Other",
        "b",
    ]


def test_a_dockerfile_on_standard_input_or_ours(
    pybuild: Pybuild, served: Served, tmp_path: Path
) -> None:
    """CTX-6"""
    out = tmp_path / "out"
    pybuild("build", "-f", "-", "-o", out, served.url, stdin=b"FROM scratch\nCOPY a /in\n")
    assert (out / "in").read_text() == "2"
    ours = tmp_path / "Ours"
    ours.write_text("FROM scratch\nCOPY a /ours\n")
    assert read(pybuild, tmp_path, "-f", ours, served.url, name="ours") == "2"


def test_a_dockerfile_that_is_a_link_stays_in_the_repository(
    pybuild: Pybuild, served: Served
) -> None:
    """CTX-4"""
    (served.repository.path / "Link").symlink_to("/etc/hostname")
    served.repository.commit()
    failed = pybuild("build", "-f", "Link", served.url, code=1).err
    assert "failed to read dockerfile: open Link: no such file or directory" in failed


def test_checks_and_outlines_of_a_repository(pybuild: Pybuild, served: Served) -> None:
    """UI-6"""
    assert "no warnings" in pybuild("build", "--check", served.url).out
    assert "TARGET" in pybuild("build", "--call=targets", f"{served.url}#:sub").out


def test_private_repositories_by_token(
    pybuild: Pybuild, repository: Repository, base_dir: Path, tmp_path: Path
) -> None:
    """ADD-9, SEC-3: as context, as named context and in ADD; nobody else sees the token."""
    pair = base64.b64encode(b"x-access-token:s3cret").decode()
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    secret = ("--secret", f"id=GIT_AUTH_TOKEN,src={token}")
    with serving(http_backend(base_dir, f"basic {pair}")) as url:
        url += "/app.git"
        assert read(pybuild, tmp_path, *secret, url) == "2"
        context = write(
            tmp_path / "ctx",
            Dockerfile=f"FROM scratch\nADD {url} /add/\nCOPY --from=src a /\n",
        )
        named = ("--build-context", f"src={url}#old")
        assert read(pybuild, tmp_path, *secret, *named, context) == "1"
        refused = pybuild("build", url, code=None)
        assert refused.code != 0 and "s3cret" not in refused.err
        token.write_text("wr0ng\n")
        wrong = pybuild("build", *secret, f"{url}#old", code=None)
        assert wrong.code != 0 and "wr0ng" not in wrong.err
    stored = [path for path in pybuild.store.rglob("*") if path.is_file()]
    assert all(b"s3cret" not in path.read_bytes() for path in stored)


# --- ssh ------------------------------------------------------------------------------------------


@pytest.fixture
def over_ssh(
    repository: Repository, base_dir: Path, tmp_path: Path
) -> Generator[tuple[str, Path, Path]]:
    """URL of the repository, a key that opens it, a home that knows the host."""
    key = make_key(tmp_path / "key")
    with sshd(tmp_path / "sshd", key) as server:
        home = tmp_path / "home"
        (home / ".ssh").mkdir(parents=True)
        (home / ".ssh/known_hosts").write_text(server.known_hosts)
        yield f"ssh://{server.login}{repository.path}", key, home


def test_git_over_ssh_with_a_key_of_ours(
    pybuild: Pybuild, over_ssh: tuple[str, Path, Path], tmp_path: Path
) -> None:
    """ADD-9, SEC-4: a real sshd; the key itself never leaves the agent."""
    url, key, home = over_ssh
    out = tmp_path / "out"
    env = {"HOME": str(home)}
    pybuild("build", "--ssh", f"default={key}", "-o", out, f"{url}#old", env=env)
    assert (out / "a").read_text() == "1"
    without = pybuild("build", url, env=env, code=1).err
    assert 'no SSH key "default" forwarded from the client' in without
    other = make_key(tmp_path / "other")
    refused = pybuild("build", "--ssh", f"default={other}", url, env=env, code=None)
    assert refused.code != 0 and "Permission denied" in refused.err


def test_a_host_whose_key_changed_is_refused(
    pybuild: Pybuild, over_ssh: tuple[str, Path, Path]
) -> None:
    """ADD-9: known hosts count."""
    url, key, home = over_ssh
    hosts = home / ".ssh/known_hosts"
    name, kind, _ = hosts.read_text().split()[:3]
    stranger = make_key(home / "stranger").with_suffix(".pub").read_text().split()[1]
    hosts.write_text(f"{name} {kind} {stranger}\n")
    refused = pybuild("build", "--ssh", f"default={key}", url, env={"HOME": str(home)}, code=None)
    assert refused.code != 0 and "Host key verification failed" in refused.err


def test_an_agent_reaches_a_step(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """MNT-20: a socket where SSH_AUTH_SOCK says, for those steps that ask."""
    key = make_key(tmp_path / "key")
    text = (
        f"FROM {base}\n"
        "RUN --mount=type=ssh,id=x,required test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /where\n"
        'RUN test -z "$SSH_AUTH_SOCK"\n'
    )
    context = write(tmp_path / "ctx", Dockerfile=text)
    pybuild("build", "-t", "app", "--ssh", f"x={key}", context)
    assert pybuild("run", "app", "cat", "/where").out == "/run/buildkit/ssh_agent.0\n"
    again = write(tmp_path / "ctx", Dockerfile=text + "RUN true\n")
    missing = pybuild("build", "--no-cache", again, code=1).err
    assert 'no SSH key "x" forwarded from the client' in missing
