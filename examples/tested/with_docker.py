# type: ignore

"""The same tests as they were with docker-py: they need a daemon, and leave images behind when they break off."""

import os
import time
from pathlib import Path

import docker
import pytest

BASE = os.environ.get("BASE", "busybox:1.37")
HERE = str(Path(__file__).parent)


@pytest.fixture(scope="session")
def client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def build(client):
    images = []

    def made(**buildargs):
        image, log = client.images.build(path=HERE, buildargs={"BASE": BASE, **buildargs}, rm=True)
        images.append(image.id)
        return image, list(log)

    yield made
    for image in images:
        client.images.remove(image, force=True)


@pytest.fixture
def container(client, build):
    image, _ = build()
    container = client.containers.run(image.id, detach=True)
    try:
        yield container
    finally:
        container.remove(force=True)


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_greeting_is_of_the_language(client, build, language):
    image, _ = build(LANGUAGE=language)
    output = client.containers.run(image.id, ["cat", "/greeting"], remove=True)
    assert output in (b"hello\n", b"hallo\n")


def test_it_serves(container):
    while container.exec_run(["test", "-e", "/ready"]).exit_code:
        time.sleep(0.1)
    assert container.logs() == b"hello\n"


def test_a_change_of_the_program_leaves_the_words_cached(client, build):
    build()
    _, log = build()
    lines = [entry.get("stream", "") for entry in log]
    steps = [at for at, line in enumerate(lines) if "cat /words/" in line]
    assert steps and all("Using cache" in line for at in steps for line in lines[at + 1 : at + 3])
    words, _ = client.images.build(path=HERE, buildargs={"BASE": BASE}, target="words", rm=True)
    output = client.containers.run(words.id, ["cat", "/words/de"], remove=True)
    client.images.remove(words.id, force=True)
    assert output == b"hallo\n"
