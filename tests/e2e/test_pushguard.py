"""A push of an image with secrets in it is stopped, and says where they are, never what they are."""

from __future__ import annotations

import json
import random
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.harness import Done, Pybuild, write
from tests.image.test_secretrules import letters, pem
from tests.needs import needs
from tests.services import RegistryProcess, start_registry

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.slow,
    pytest.mark.registry,
    needs("docker-registry"),
]

GITHUB = f"ghp_{letters(36)}"
AWS = "AKIA" + "2E0A8F3B244C9986"
ENV = "PORT=80\nDB_PASSWORD=correct-horse\n"
SECRETS = ("correct-horse", GITHUB, AWS, pem().splitlines()[1])


def planted(where: Path, *, with_bulk: bool = False) -> Path:
    context = write(
        where,
        Dockerfile="FROM scratch\nCOPY readme /\n# the mistake\nCOPY . /app/\n",
        readme="nothing here",
        **{
            ".env": ENV,
            "id_rsa": pem(),
            "notes.txt": f"use {GITHUB}\n",
            "aws.ini": f"\nid={AWS}\n",
        },
    )
    if with_bulk:
        (context / "bulk").write_bytes(random.Random(3).randbytes(6_000_000))
    return context


def assert_stopped(done: Done) -> list[str]:
    """Check the refusal, and that no secret is printed; return the lines that say it."""
    for secret in SECRETS:
        assert secret not in done.out + done.err
    lines = done.err.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("error: "))
    assert "push stopped" in lines[at]
    return lines[at:]


def tags(registry: RegistryProcess, repository: str) -> list[str]:
    try:
        with urllib.request.urlopen(f"{registry.url}/v2/{repository}/tags/list") as answer:
            return sorted(json.load(answer)["tags"] or [])
    except urllib.error.HTTPError as error:
        assert error.code == 404
        return []


def sent(registry: RegistryProcess) -> int:
    """Return how many bytes the registry has, uploads that nobody finished included."""
    return sum(path.stat().st_size for path in registry.root.rglob("*") if path.is_file())


def test_a_build_that_pushes_a_planted_file_and_three_keys_is_stopped(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    """Before one byte of the layer is sent, though large layers are sent while they are made."""
    context = planted(tmp_path / "ctx", with_bulk=True)
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/team/app:1"
        done = pybuild("build", "--push", "-t", name, str(context), code=1)
        lines = assert_stopped(done)
        assert lines[:3] == [
            (
                "error: push stopped, 4 secrets in the image: "
                "app/.env line 2 (value of DB_PASSWORD; layer 2 of 2, Dockerfile:4); "
                "app/aws.ini line 2 (AWS key; layer 2 of 2, Dockerfile:4); "
                "app/id_rsa line 1 (private key; layer 2 of 2, Dockerfile:4); "
                "app/notes.txt line 1 (GitHub token; layer 2 of 2, Dockerfile:4)"
            ),
            (
                "hint: push it all the same: --allow-secret app/.env --allow-secret app/aws.ini "
                "--allow-secret app/id_rsa --allow-secret app/notes.txt"
            ),
            "hint: keep it out with .dockerignore or RUN --mount=type=secret",
        ]
        assert (tags(registry, "team/app"), sent(registry) < 1000) == ([], True)
        # The image is kept, and `push` refuses it as well, by the verdict that is there.
        stopped = pybuild("push", name, code=1)
        assert "COPY . /app/" in assert_stopped(stopped)[0]
        assert "searching" not in stopped.err
        some = ["--allow-secret", "/app/.env", "--allow-secret", "app/id_*"]
        left = assert_stopped(pybuild("push", *some, name, code=1))[0]
        assert "2 secrets in the image: app/aws.ini" in left
        assert tags(registry, "team/app") == []
        pybuild("push", "--allow-secret", "app/*", name)
        assert tags(registry, "team/app") == ["1"]
        pybuild("build", "--push", "--allow-secret=*", "-t", f"{name}2", str(context))
        assert tags(registry, "team/app") == ["1", "12"]


def test_keys_that_a_step_makes_are_found_with_the_step(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    text = f"FROM {base}\nRUN mkdir /k && cp /etc/passwd /k\nRUN printf '%s' ghp_ > /k/t && printf %s {letters(36)} >> /k/t\n"
    context = write(tmp_path / "ctx", Dockerfile=text)
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/team/app:1"
        pybuild("build", "-t", name, str(context))
        assert (
            "(GitHub token; layer 3 of 3, RUN)" in assert_stopped(pybuild("push", name, code=1))[0]
        )
        done = pybuild("build", "-t", name, "--push", str(context), code=1)
        assert "k/t line 1 (GitHub token; layer 3 of 3, Dockerfile:3)" in assert_stopped(done)[0]


def test_an_image_that_was_loaded_is_searched_and_one_that_was_pulled_is_not(
    pybuild: Pybuild, tmp_path: Path
) -> None:
    context = planted(tmp_path / "ctx")
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/team/app:1"
        archive = tmp_path / "image.tar"
        pybuild("build", "-t", name, "-o", f"type=docker,dest={archive}", str(context))
        other = Pybuild(tmp_path / "other")
        other("load", "-i", str(archive))
        stopped = other("push", name, code=1)
        assert "layer 2 of 2, COPY . /app/" in assert_stopped(stopped)[0]
        other("push", name, "--allow-secret", "*")
        third = Pybuild(tmp_path / "third")
        third("pull", name)
        third("tag", name, f"{registry.host}/team/copy:1")
        third("push", f"{registry.host}/team/copy:1")
        assert tags(registry, "team/copy") == ["1"]


def test_archives_are_searched_where_they_are_asked_to_be(pybuild: Pybuild, tmp_path: Path) -> None:
    context = planted(tmp_path / "ctx")
    out = tmp_path / "image.tar"
    pybuild("build", "-o", f"type=oci,dest={out}", str(context))
    out.unlink()
    checked = f"type=oci,dest={out},check-secrets=true"
    assert_stopped(pybuild("build", "-o", checked, str(context), code=1))
    assert not out.exists()
    pybuild("build", "-o", f"{checked},allow-secret=app/.env;app/[ain]*", str(context))
    assert out.exists()
    # A push can also be left unsearched.
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/team/app:1"
        pybuild("build", "-o", f"type=registry,name={name},check-secrets=false", str(context))
        assert tags(registry, "team/app") == ["1"]


def test_rules_of_bake_are_those_of_build(pybuild: Pybuild, tmp_path: Path) -> None:
    context = planted(tmp_path / "ctx")
    with start_registry(tmp_path) as registry:
        target = {"context": str(context), "tags": [f"{registry.host}/team/app:1"]}
        bake = tmp_path / "docker-bake.json"
        bake.write_text(json.dumps({"target": {"default": target}}))
        assert_stopped(pybuild("bake", "--allow=fs.read=*", "-f", str(bake), "--push", code=1))
        assert tags(registry, "team/app") == []
        target["output"] = ["type=registry,allow-secret=app/*"]
        bake.write_text(json.dumps({"target": {"default": target}}))
        pybuild("bake", "--allow=fs.read=*", "-f", str(bake))
        assert tags(registry, "team/app") == ["1"]


@pytest.mark.root
def test_a_build_server_and_its_engine_stop_the_pushes_of_their_clients(tmp_path: Path) -> None:
    context = planted(tmp_path / "ctx", with_bulk=True)
    (tmp_path / "s").mkdir()
    here = Pybuild(tmp_path / "store")
    client = Pybuild(tmp_path / "client")
    engine = tmp_path / "s/docker.sock"
    with (
        start_registry(tmp_path) as registry,
        daemon(here, tmp_path / "s", "--docker-socket", str(engine)) as server,
    ):
        name = f"{registry.host}/team/app:1"
        words = ["-H", server.address, "build", "--push", "-t", name]
        lines = assert_stopped(client(*words, str(context), code=1))
        assert "layer 2 of 2, Dockerfile:4" in lines[0]
        assert lines[1].startswith("hint: push it all the same: --allow-secret app/.env ")
        assert_stopped(client("-H", f"unix://{engine}", "push", name, code=None))
        assert (tags(registry, "team/app"), sent(registry) < 1000) == ([], True)
        client(*words, "--allow-secret", "app/*", str(context))
        assert tags(registry, "team/app") == ["1"]


def test_the_value_of_a_secret_of_the_build_is_found_in_any_file(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """Also in a program, in a layer that was made and searched before; the store holds no value."""
    text = (
        f"FROM {base}\nRUN --mount=type=secret,id=word "
        "mkdir -p /usr/lib && (cat /bin/busybox; cat /run/secrets/word) > /usr/lib/program\n"
    )
    context = write(tmp_path / "ctx", Dockerfile=text)
    (tmp_path / "word").write_text("Staple-7-battery\n")
    words = [f"--secret=id=word,src={tmp_path}/word", str(context)]
    with start_registry(tmp_path) as registry:
        name = f"{registry.host}/team/app:1"
        pybuild("build", "-t", name, *words)
        for _ in range(2):
            done = pybuild("build", "--push", "-t", name, *words, code=1)
            lines = assert_stopped(done)
            assert "a secret in the image: usr/lib/program line" in lines[0]
            assert "(value of the secret word; layer 2 of 2, Dockerfile:2)" in lines[0]
            assert "Staple-7" not in done.out + done.err
        assert_stopped(pybuild("push", name, code=1))
        # Another value, which is not in it, does not make the first one good.
        (tmp_path / "word").write_text("Another-8-battery\n")
        assert_stopped(pybuild("build", "--push", "-t", name, *words, code=1))
        pybuild("build", "--push", "--allow-secret=usr/lib/program", "-t", name, *words)
        assert tags(registry, "team/app") == ["1"]
    records = b"".join(path.read_bytes() for path in (pybuild.store / "records").iterdir())
    assert b"Staple-7" not in records
