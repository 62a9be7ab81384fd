"""The page of a real server, and of a real browser that opens it by its link."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.daemon.buildsites import daemon
from tests.harness import Pybuild, write
from tests.needs import need

pytestmark = pytest.mark.slow
LINK = re.compile(r"the page opens once by (http://\S+)")


def test_a_browser_that_opens_the_link_sees_the_builds(tmp_path: Path) -> None:
    """And nobody who opens it a second time: another browser is told so."""
    need("chromium")
    pybuild = Pybuild(tmp_path / "store")
    context = write(tmp_path / "shop", Dockerfile="FROM scratch\nCOPY . /\n")
    pybuild("build", str(context))
    with daemon(pybuild, tmp_path, "--web", "auto") as server:
        link = LINK.findall(server.said())[-1]
        shown = opened(tmp_path / "first", link)
        assert '<span class="state completed">completed</span>' in shown
        assert '<a href="/builds/' in shown and ">shop</a>" in shown
        assert "has been used" in opened(tmp_path / "second", link)
        links = LINK.findall(server.said())
        assert len(links) == 2 and links[1] != link
        assert server.stop() == 0


def test_an_address_that_others_reach_is_refused(tmp_path: Path) -> None:
    failed = Pybuild(tmp_path / "store")("daemon", "--web", "0.0.0.0:8300", code=2, timeout=60)
    assert "--web 0.0.0.0:8300: the page is served on this machine's loopback alone" in failed.err
    assert "ssh -L 8300:127.0.0.1:8300" in failed.err


def opened(profile: Path, link: str) -> str:
    """Return the document that a browser with a new profile ends at."""
    done = subprocess.run(
        [
            *(
                "timeout",
                "-k",
                "5",
                "90",
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
            ),
            *(f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", link),
        ],
        env={**os.environ, "HOME": str(profile)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout
