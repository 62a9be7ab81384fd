# type: ignore

"""Tests of an image with pybuild's plugin: no daemon, nothing to clean up."""

import os
import time

import pytest

BASE = {"BASE": os.environ.get("BASE", "busybox:1.37")}


@pytest.mark.pybuild(build_args={**BASE, "LANGUAGE": ["en", "de"]})
def test_the_greeting_is_of_the_language(built):
    language = built.output("cat", "/greeting").out
    assert language in ("hello\n", "hallo\n")


@pytest.mark.pybuild(build_args=BASE)
def test_it_serves(built):
    with built.run() as container:
        while container.exec("test", "-e", "/ready", code=None).code:
            time.sleep(0.1)
        assert container.logs().out == "hello\n"


@pytest.mark.pybuild(build_args=BASE)
def test_a_change_of_the_program_leaves_the_words_cached(built, build_image):
    again = build_image(build_args=BASE)
    assert again["words"].cached, again["words"].why
    assert built.in_stage("words", "cat", "/words/de").out == "hallo\n"
