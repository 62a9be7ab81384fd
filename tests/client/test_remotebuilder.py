"""Options that a build server cannot honour: each is refused by its name, before anybody is called."""

from __future__ import annotations

import pytest

from pybuild.cli import main

NOBODY = "unix:///nonexistent/buildkitd.sock"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ("build", "--runtime", "crun", "."),
            (
                "error: --runtime is the build server's to choose\n"
                "hint: start the server with it: pybuild daemon --runtime NAME\n"
            ),
        ),
        (
            ("build", "-v", "/tmp:/in", "."),
            (
                "error: -v is about the directories of this machine, and steps run on another\n"
                "hint: send the files: --build-context NAME=DIR and RUN --mount=from=NAME,target=PATH\n"
            ),
        ),
        (
            ("build", "--pull=never", "."),
            (
                "error: --pull=never is about the store of this machine\n"
                "hint: leave it out; a build server asks registries by its own rules\n"
            ),
        ),
        (
            ("build", "--secret=id=HOME,key=true", "."),
            (
                "error: --secret key=true is about the keys of this machine's store\n"
                "hint: let its version count: ARG in the Dockerfile, and --build-arg NAME=VERSION\n"
            ),
        ),
        (
            ("build", "--check", "--cache-max", "1GB", "."),
            (
                "error: --cache-max is about the store of this machine\n"
                "hint: start the server with it: pybuild daemon --cache-max SIZE\n"
            ),
        ),
        (
            ("prune", "-f", "--max-used-space", "60%"),
            "error: a share of a disk is the build server's to know\nhint: write 10GB\n",
        ),
    ],
)
def test_each_is_refused_with_a_way_out(
    words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-H", NOBODY, *words]) == 2
    assert capsys.readouterr() == ("", text)


def test_sizes_that_are_no_share_reach_the_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-H", NOBODY, "prune", "-f", "--max-used-space", "10GB"]) == 3
    assert f"cannot connect to {NOBODY}" in capsys.readouterr().err
