"""``pybuild run -p``: taken where the host's network does the same anyway, otherwise refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.model.errors import UsageError
from pybuild.networks.reading import check_published


@pytest.mark.parametrize(
    "text",
    ["80", "80:80", "8000-8002:8000-8002", "53:53/udp", "0.0.0.0:80:80", "[::]:80:80", "79-81:80"],
)
def test_ports_of_the_host_are_taken(text: str) -> None:
    check_published([text])


MAPPED = "ports cannot be mapped: the process has the host's network, and would listen on the host's own "
BOUND = (
    "ports cannot be bound to an address: the process has the host's network, and chooses itself "
    "where it listens on "
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("18088:18080", MAPPED + "18080"),
        ("8000-8002:9000-9002/tcp", MAPPED + "9000-9002"),
        ("127.0.0.1:80:80", BOUND + "80"),
        ("127.0.0.1::80", BOUND + "80"),
        ("web", "invalid containerPort: web"),
        ("80:http", "invalid containerPort: http"),
        ("x:80", "invalid hostPort: x"),
    ],
)
def test_what_needs_a_network_of_its_own_is_refused(text: str, cause: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_published(["80", text])
    assert caught.value.message == f"-p {text}: {cause}"


def test_the_command_refuses_before_it_looks_for_the_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--root", str(tmp_path / "store"), "-p", "18088:18080", "no-such-image"]
    assert main(["run", "--network", "host", *words]) == 125
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: -p 18088:18080: ports cannot be mapped")
    assert second.startswith("hint: have the program listen on another port")
    assert not (tmp_path / "store").exists()
