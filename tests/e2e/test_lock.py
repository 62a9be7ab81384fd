"""``pybuild lock`` and ``build --locked``, against a registry, a web server and a repository that go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gitservers import Repository, git_daemon, need_git
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.services import start_registry
from tests.webservers import site

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]


def publish(pybuild: Pybuild, where: Path, name: str, text: str) -> None:
    """Push an image that has one file with *text*."""
    context = write(where, Dockerfile="FROM scratch\nCOPY is /is\n", is_=text)
    (context / "is_").rename(context / "is")
    pybuild("build", "--push", "-t", name, str(context))


def sources(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads(path.read_text())["sources"]
    return found


def test_a_locked_build_takes_what_was_written_down_and_nothing_else(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    need_git()
    maker = Pybuild(tmp_path / "maker")
    repository = Repository(tmp_path / "git/a.git")
    commit = repository.commit({"page": "one"})
    out = tmp_path / "out"
    with (
        start_registry(tmp_path) as registry,
        site() as web,
        git_daemon(tmp_path / "git") as git,
    ):
        name = f"{registry.host}/team/base"
        publish(maker, tmp_path / "m", f"{name}:1", "one")
        publish(maker, tmp_path / "m", f"{name}:other", "other")
        web.files["/file"] = b"one"
        context = write(
            tmp_path / "ctx",
            Dockerfile=f"ARG TAG=1\nFROM {name}:$TAG AS apart\nFROM scratch\n"
            f"COPY --from={name}:1 /is /image\nADD {web.url}/file /file\nADD {git}/a.git#main /git\n",
        )
        lock = context / "pybuild.lock"
        build = ["build", "-o", str(out), str(context)]
        missing = pybuild("build", "--locked", "-o", str(out), str(context), code=2)
        assert "there is no lock file" in missing.err and "pybuild lock writes it" in missing.err
        said = pybuild("lock", "-q", str(context)).out
        assert [line[:2] for line in said.splitlines()] == ["+ "] * 3
        first = sources(lock)
        assert set(first) == {
            f"docker-image://{name}:1",
            f"git://{git.removeprefix('git://')}/a.git#main",
            f"{web.url}/file",
        }
        assert first[f"git://{git.removeprefix('git://')}/a.git#main"].endswith(f"#{commit}")
        assert pybuild("lock", "--check", "-q", str(context)).out == ""

        # All of it goes on; what was locked is still there, but for the file.
        publish(maker, tmp_path / "m", f"{name}:1", "two")
        repository.commit({"page": "two"})
        pybuild("build", "--locked", "-o", str(out), str(context))
        assert [(out / part).read_text() for part in ("image", "file", "git/page")] == ["one"] * 3
        fresh = Pybuild(tmp_path / "fresh")
        fresh(*build[:1], "--locked", *build[1:])
        assert (out / "image").read_text() == "one"
        web.files["/file"] = b"two"
        other = Pybuild(tmp_path / "other")
        changed = other(*build[:1], "--locked", *build[1:], code=1)
        assert f"{web.url}/file" in changed.err and "digest mismatch" in changed.err

        # What is new is refused, with its line, before anybody is asked.
        text = (context / "Dockerfile").read_text()
        (context / "Dockerfile").write_text(f"{text}COPY --from={name}:other /is /new\n")
        refused = pybuild("build", "--locked", "-o", str(out), str(context), code=1)
        assert f'"docker-image://{name}:other" is not in {lock}' in refused.err
        assert "\nhint: pybuild lock writes it anew" in refused.err
        assert f">>> COPY --from={name}:other" in refused.err
        (context / "Dockerfile").write_text(text)
        pybuild(
            "build", "--locked", "--build-arg=TAG=other", "--target=apart", str(context), code=1
        )

        # The lock is renewed, and says what is new.
        assert pybuild("lock", "--check", "-q", str(context), code=1).out.count("~ ") == 3
        assert sources(lock) == first
        assert pybuild("lock", "-q", str(context)).out.count("~ ") == 3
        pybuild("build", "--locked", "-o", str(out), str(context))
        assert [(out / part).read_text() for part in ("image", "file", "git/page")] == ["two"] * 3
    # Nobody is there any more, and the store has it all.
    for part in ("image", "file"):
        (out / part).unlink()
    pybuild("build", "--locked", "--no-cache", "-o", str(out), str(context))
    assert [(out / part).read_text() for part in ("image", "file", "git/page")] == ["two"] * 3


def test_what_a_source_policy_replaces_is_locked_as_it_is_then(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "ctx", Dockerfile=f"FROM {base}\n")
    pybuild("tag", base, "mine:1")
    pybuild("lock", "-q", "--lockfile", str(tmp_path / "l"), str(context))
    (name,) = sources(tmp_path / "l")
    assert name == f"docker-image://docker.io/library/{base}:latest"
    words = ["build", "--locked", "--lockfile", str(tmp_path / "l"), "-o", str(tmp_path / "out")]
    pybuild(*words, str(context))
    (context / "Dockerfile").write_text("FROM mine:1\n")
    assert "docker-image://docker.io/library/mine:1" in pybuild(*words, str(context), code=1).err
    policy = write(tmp_path / "p", policy='{"version": 1, "rules": []}') / "policy"
    both = pybuild(*words, "--source-policy-file", str(policy), str(context), code=2)
    assert "one of them" in both.err
