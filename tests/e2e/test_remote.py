"""``pybuild -H``: what a real server makes is what is made in this process [remote-api 3-7]."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from pybuild.executor.zygote import hierarchies
from tests.e2e.remotes import Remote, remote, server, there
from tests.gitservers import Repository, git_daemon, make_key, need_git
from tests.harness import Pybuild, write
from tests.needs import needs
from tests.services import start_registry
from tests.webservers import site

__all__ = ["remote", "server", "there"]
pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
SAME = ("--build-arg", "SOURCE_DATE_EPOCH=1700000000")


def digest_of(run: Pybuild, tmp_path: Path, context: Path | str, *words: str | Path) -> str:
    """Build an archive that shows no times, and return the image's digest."""
    facts = tmp_path / "facts.json"
    out = f"type=oci,dest={tmp_path / 'image.tar'},rewrite-timestamp=true"
    run("build", *SAME, "-o", out, "--metadata-file", facts, *words, context)
    with tarfile.open(tmp_path / "image.tar") as tar:
        index = tar.extractfile("index.json")
        assert index is not None
        digest = str(json.load(index)["manifests"][0]["digest"])
    assert json.loads(facts.read_text())["containerimage.digest"] == digest
    return digest


# --- the same images ------------------------------------------------------------------------------


def test_images_are_those_of_a_build_in_this_process(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    """[BLD] One of every option that changes what comes out."""
    context = write(
        tmp_path / "c",
        **{
            "sub/Built": "ARG V\nFROM base AS one\nARG V=1\nRUN echo $V > /v\nCOPY --from=other x /x\n"
            "FROM one AS two\nCOPY . /all\nFROM two AS three\nRUN false\n",
            "sub/Built.dockerignore": "no\n",
            "a": "a",
            "no": "n",
        },
    )
    other = write(tmp_path / "other", x="x", y="y")
    words: list[str | Path] = ["-f", context / "sub/Built", "--target", "two", "--build-arg", "V=7"]
    words += ["--label", "k=v", "--build-context", f"other={other}", "-t", "app:1"]
    words += ["--add-host", "h:10.1.2.3", "--ulimit", "nofile=64:64", "--shm-size", "16m"]
    here = digest_of(pybuild, tmp_path, context, *words)
    assert digest_of(remote, tmp_path, context, *words) == here


def test_limits_of_steps_hold_there(remote: Remote, tmp_path: Path) -> None:
    """[BLD-24]"""
    if not any("pids" in h.controllers and not h.problem for h in hierarchies.hierarchies()):
        pytest.skip("no pids cgroup")
    step = "RUN for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done"
    context = write(tmp_path / "c", Dockerfile=f"FROM base\n{step}\n")
    assert "out of processes" in remote("build", "--resource=pids=5", context, code=1).err
    remote("build", "--resource=pids=50", context)


def test_an_image_is_kept_by_the_server_and_named_there(
    remote: Remote, there: Pybuild, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nCOPY f /\n", f="kept")
    id = tmp_path / "id"
    done = remote("build", "-q", "-t", "kept:1", "--iidfile", id, context)
    assert done.out.strip() == id.read_text()
    assert id.read_text()[7:19] in there("images").out
    assert "kept" not in Pybuild(remote.store)("images").out


def test_load_brings_the_image_here(remote: Remote, pybuild: Pybuild, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nCOPY f /\n", f="loaded")
    remote("build", "--load", "-t", "loaded:1", context)
    assert pybuild("run", "loaded:1", "cat", "/f").out == "loaded"
    pybuild("inspect", "--check", "loaded:1")
    again = write(tmp_path / "d", Dockerfile="FROM loaded:1\nRUN cat /f\n")
    assert "loaded" in pybuild("build", "--progress", "plain", again).err


def test_an_image_that_is_brought_here_has_its_annotations(
    remote: Remote, there: Pybuild, pybuild: Pybuild, tmp_path: Path
) -> None:
    """[BLD-17] And so beside other outputs; the server keeps no image for that."""
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="annotated")
    words = ("--load", "--annotation", "k=annotated", "-o", tmp_path / "out", context)
    for name, run in (("near", pybuild), ("far", remote)):
        run("build", "-t", name, *words)
        image = json.loads(pybuild("inspect", "--oci", name).out)
        assert image["manifest"]["annotations"]["k"] == "annotated"
    assert "far" not in there("images").out


def test_a_directory_and_a_tar_come_back(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /d/f\n", f="x")
    out = write(tmp_path / "out", mine="stays")
    remote("build", "-o", out, "-o", f"type=tar,dest={tmp_path / 't'}", context)
    assert (out / "d/f").read_text() == "x" and (out / "mine").read_text() == "stays"
    assert (out / "d/f").stat().st_uid == os.getuid()
    with tarfile.open(tmp_path / "t") as tar:
        assert tar.getnames() == ["d", "d/f"]
    piped = subprocess.run(
        remote.command("build", "-o", "-", context),
        env=remote.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    with tarfile.open(fileobj=io.BytesIO(piped.stdout)) as tar:
        assert tar.getnames() == ["d", "d/f"]


def test_a_mounted_directory_is_seen_as_a_copy_of_it_would_be(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    """[MNT-5, CP-7] The server mounts what it received; nothing of a step's stays there."""
    show = "find . -not -name . | sort | xargs stat -c '%n %F %a %u:%g'; cat sub/f link"
    context = write(
        tmp_path / "c",
        **{
            "Dockerfile": "FROM base\n"
            f"RUN --mount=target=/c cd /c && ({show}) > /1 && ! touch /c/x\n"
            "RUN --mount=target=/c,rw cd /c && rm -r sub && echo mine > a && touch new && cat a > /2\n"
            f"RUN --mount=target=/c cd /c && ({show}) > /3\n"
            "RUN --mount=source=link,target=/l cat /l > /4\n",
            "a": "a",
            "sub/f": "f",
            "no": "n",
            ".dockerignore": "no\n",
        },
    )
    (context / "link").symlink_to("sub/f")
    (context / "sub/f").chmod(0o640)
    saw: list[list[str]] = []
    for run in (pybuild, remote, remote):
        out = tmp_path / f"out{len(saw)}"
        run("build", "--no-cache", "-o", out, context)
        saw.append([(out / name).read_text() for name in "1234"])
    assert saw[0] == saw[1] == saw[2]
    assert saw[0][0] == saw[0][2] and "./no" not in saw[0][0]
    assert saw[0][1] == "mine\n" and saw[0][3] == "f"


def test_policies_judge_sources_here_and_there(
    pybuild: Pybuild, remote: Remote, base: str, tmp_path: Path
) -> None:
    """[POL-1, POL-4, POL-5] The rules of a file, or of the environment; a cached build, too."""
    context = write(tmp_path / "c", Dockerfile="FROM base AS one\nRUN true\n")
    other = write(tmp_path / "other", f="x")
    from_test = {
        "action": "CONVERT",
        "selector": {"identifier": "docker-image://docker.io/library/nowhere:*"},
        "updates": {"identifier": "local://test"},
    }
    deny = {"action": "DENY", "selector": {"identifier": "docker-image://*"}}
    path = tmp_path / "policy.json"
    with site() as web:
        web.files["/f"] = b"x"
        for run in (pybuild, remote):
            run("build", context)
            path.write_text(json.dumps({"rules": [deny]}))
            for words, given in (
                (("--source-policy-file", path), {}),
                ((), {"EXPERIMENTAL_BUILDKIT_SOURCE_POLICY": str(path)}),
                ((), {"BUILDKIT_SOURCE_POLICY": str(path)}),
            ):
                done = run("build", *words, context, env=given, code=1)
                assert 'source "docker-image://docker.io/library/base:latest" denied' in done.err
                assert ">>> FROM base AS one" in done.err
            path.write_text(json.dumps({"rules": [deny, from_test]}))
            out = tmp_path / f"out-{run.store.name}"
            others = ("--build-context", f"test={other}", "-o", out)
            text = b"FROM nowhere AS n\nFROM scratch\nCOPY --from=n f /instead\n"
            run("build", "--source-policy-file", path, *others, "-f", "-", context, stdin=text)
            assert (out / "instead").read_text() == "x"
            secret = {"action": "DENY", "selector": {"identifier": f"{web.url}/*"}}
            path.write_text(json.dumps({"rules": [secret]}))
            asked = len(web.asked)
            done = run("build", "--source-policy-file", path, f"{web.url}/f", code=1)
            assert f'source "{web.url}/f" denied by policy' in done.err
            assert len(web.asked) == asked
            path.write_text("{}}")
            done = run("build", "--source-policy-file", path, context, code=2)
            assert f"source policy {path}: " in done.err and "Traceback" not in done.err


def test_a_server_deletes_here_only_what_we_allow(remote: Remote, tmp_path: Path) -> None:
    """OUT-17: the entitlement is ours and not the server's to grant."""
    context = write(tmp_path / "ctx", Dockerfile="FROM scratch\nCOPY f /f\n", f="f")
    out = write(tmp_path / "out", old="old")
    words: list[str | Path] = ["-o", f"type=local,dest={out},mode=delete", context]
    assert "buildx.local.delete" in remote("build", *words, code=2).err
    remote("build", "--allow", "buildx.local.delete", *words)
    assert [path.name for path in out.iterdir()] == ["f"]


def test_a_layout_keeps_its_other_images_and_serves_as_a_context(
    remote: Remote, pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """[OUT-3, NC-1] Blobs come one by one; a tag is looked up here, the layers are read there."""
    layout = tmp_path / "layout"
    for name, run in (("one", remote), ("two", pybuild)):
        context = write(tmp_path / name, Dockerfile="FROM base\nCOPY f /f\n", f=name)
        run("build", "-t", name, "-o", f"type=oci,dest={layout},tar=false", context)
    names = {
        entry["annotations"]["io.containerd.image.name"]
        for entry in json.loads((layout / "index.json").read_text())["manifests"]
    }
    assert names == {f"docker.io/library/{name}:latest" for name in ("one", "two")}
    user = write(tmp_path / "c", Dockerfile="FROM other\nRUN cat /f\n")
    entry = json.loads((layout / "index.json").read_text())["manifests"][1]
    source = f"other=oci-layout://{layout}@{entry['digest']}"
    words = ("build", "--no-cache", "--progress", "plain", "--build-context", source, user)
    assert " two\n" in remote(*words).err
    full = write(tmp_path / "full", file="x")
    done = remote("build", "-o", f"type=oci,dest={full},tar=false", user, code=1)
    assert "not empty and not an OCI layout" in done.err


# --- where builds start ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dockerfile", "archive", "beside"])
def test_standard_input_is_what_it_is_without_a_server(
    remote: Remote, pybuild: Pybuild, tmp_path: Path, kind: str
) -> None:
    """[CTX-1] Files keep their times here, but times are no part of a cache key [KEY-2]: had the server
    made such a copy for another test, of equal bytes, that one's times would come back. So they are ours.
    """
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /f\n", f=str(tmp_path))
    words: tuple[str, ...] = ("-",)
    stdin = b"FROM scratch\nLABEL a=b\n"
    if kind == "archive":
        stdin = archive_of(context, "Dockerfile", "f", mode="w:gz")
    elif kind == "beside":
        words, stdin = ("-f", "-", str(context)), b"FROM scratch\nCOPY f /g\n"
    here = pybuild("build", "-q", *SAME, *words, stdin=stdin).out
    assert remote("build", "-q", *SAME, *words, stdin=stdin).out == here


def test_standard_input_cannot_be_two_things(remote: Remote) -> None:
    done = remote("build", "-f", "-", "-", code=1)
    assert "can't use stdin for both" in done.err
    done = remote("build", "-f", "x", "-", stdin=b"FROM scratch\n", code=1)
    assert "ambiguous Dockerfile source" in done.err


def archive_of(folder: Path, *names: str, mode: Literal["w", "w:gz"] = "w") -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as tar:
        for name in names:
            tar.add(folder / name, name)
    return data.getvalue()


def test_urls_are_fetched_by_the_server_and_dockerfiles_come_from_anywhere(
    remote: Remote, tmp_path: Path
) -> None:
    """[CTX-6]"""
    context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
    mine = write(tmp_path / "mine", Dockerfile="FROM scratch\nCOPY f /mine\n")
    out = tmp_path / "out"
    with site() as served:
        served.files["/Dockerfile"] = b"FROM scratch\nCOPY f /url\n"
        served.files["/a.tar"] = archive_of(context, "Dockerfile", "f")
        archive = f"{served.url}/a.tar"
        remote("build", "-o", out, archive)
        remote("build", "-o", out, "-f", mine / "Dockerfile", archive)
        remote("build", "-o", out, "-f", f"{served.url}/Dockerfile", archive)
        remote("build", "-o", out, "-f", "-", archive, stdin=b"FROM scratch\nCOPY f /stdin\n")
        assert {path.name for path in out.iterdir()} == {"f", "mine", "url", "stdin"}
        done = remote("build", "-f", "nope", archive, code=1)
        assert "open nope: no such file" in done.err


def test_repositories_are_fetched_by_the_server(remote: Remote, tmp_path: Path) -> None:
    """[CTX-5] As contexts, named ones too."""
    need_git()
    repository = Repository(tmp_path / "git/repository.git")
    files = {"Dockerfile": "FROM scratch\nCOPY f /\nCOPY --from=n sub/g /\n", "f": "git"}
    repository.commit({"d/" + name: text for name, text in files.items()} | {"sub/g": "named"})
    with git_daemon(tmp_path / "git") as url:
        source = f"{url}/repository.git#main"
        out = tmp_path / "out"
        remote("build", "-o", out, "--build-context", f"n={source}", f"{source}:d")
    assert (out / "f").read_text() == "git" and (out / "g").read_text() == "named"


def test_what_is_not_there_is_said_as_ever(remote: Remote, tmp_path: Path) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM scratch\n")
    for words in ((tmp_path / "no",), ("-f", "nope", context), ("-f", context, context)):
        here = Pybuild(remote.store)("build", *words, code=1)
        assert remote("build", *words, code=1).err == here.err.partition("\n\n")[2] or here.err
    other = f"x={tmp_path / 'no'}"
    assert "no such directory" in remote("build", "--build-context", other, context, code=1).err


# --- what builds may use --------------------------------------------------------------------------


def test_secrets_and_agents_of_ours_are_used_there(remote: Remote, tmp_path: Path) -> None:
    """[SEC-1, SEC-4] A key is in an agent of ours, which signs and does nothing else."""
    key = make_key(tmp_path / "key")
    context = write(
        tmp_path / "c",
        Dockerfile="FROM base\n"
        "RUN --mount=type=secret,id=s,required cat /run/secrets/s | busybox md5sum\n"
        "RUN --mount=type=ssh,id=k,required test -S $SSH_AUTH_SOCK\n",
    )
    (tmp_path / "s").write_text("secret")
    words = ("--secret", f"id=s,src={tmp_path / 's'}", "--ssh", f"k={key}")
    done = remote("build", "--progress", "plain", *words, context)
    assert "5ebe2294ecd0e0f08eab7690d2a6ee69" in done.err
    done = remote("build", "--no-cache", "--secret", f"id=s,src={tmp_path / 's'}", context, code=1)
    assert "ssh" in done.err


def test_entitlements_are_asked_for_and_granted_by_the_server(
    remote: Remote, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN --network=host true\n")
    assert "network.host" in remote("build", context, code=1).err
    remote("build", "--allow", "network.host", context)
    done = remote("build", "--allow", "security.insecure", context, code=1)
    assert "not allowed by build daemon configuration" in done.err


@pytest.mark.registry
@needs("docker-registry")
def test_the_server_pushes_with_our_login(remote: Remote, tmp_path: Path) -> None:
    """[AUTH] It has none itself."""
    with start_registry(tmp_path, htpasswd={"me": "pw"}) as registry:
        context = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /\n", f="x")
        words = ("build", "-t", f"{registry.host}/app:1", "--push", context)
        remote(*words, code=3)
        login = base64.b64encode(b"me:pw").decode()
        write(
            tmp_path / "docker",
            **{"config.json": json.dumps({"auths": {registry.host: {"auth": login}}})},
        )
        remote(*words, env={"DOCKER_CONFIG": str(tmp_path / "docker")})
        tags = registry.root / "docker/registry/v2/repositories/app/_manifests/tags"
        assert [path.name for path in tags.iterdir()] == ["1"]
