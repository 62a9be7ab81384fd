"""Skipped tests say why, once, at the end of a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import needs, skips

pytest_plugins = ["pytester"]


def test_reasons_are_counted_and_packages_named_once() -> None:
    reasons = ["Skipped: needs crun (apt install crun)"] * 2 + ["needs root"] * 3
    reasons += ["needs ssh-add (apt install openssh-client)", "needs a (pip install b)"]
    assert skips.summary([*reasons, "needs sshd (apt install openssh-client)"]) == [
        "    3 needs root",
        "    2 needs crun (apt install crun)",
        "    1 needs a (pip install b)",
        "    1 needs ssh-add (apt install openssh-client)",
        "    1 needs sshd (apt install openssh-client)",
        "apt install crun openssh-client    # up to 4 more tests run",
        "pip install b    # up to 1 more tests run",
    ]


def test_many_reasons_are_summed_up() -> None:
    lines = skips.summary(f"reason {n:02}" for n in range(40))
    assert len(lines) == 16
    assert lines[-1] == "   25 for 25 other reasons, which -rs lists"


def test_nothing_is_said_where_nothing_was_skipped() -> None:
    assert skips.summary([]) == []


def test_a_program_that_is_missing_is_named_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needs.lacking("ssh-agent") == "needs ssh-agent (apt install openssh-client)"
    assert needs.lacking("crun") == "needs crun (apt install crun)"
    for name in ("crun", "busybox"):
        program = tmp_path / name
        program.write_bytes(b"\x7fELF" + bytes(500) + b"/lib64/ld-linux-x86-64.so.2\0")
        program.chmod(0o755)
    assert needs.lacking("crun") == ""
    assert needs.lacking("busybox") == "needs busybox (apt install busybox-static)"


def test_ci_installs_what_tests_need() -> None:
    """All but what each Debian has, and buildah, chromium, podman and systemd, which bring half a distribution for one test each."""
    root = Path(__file__).parents[1]
    installed = (root / ".ci/run").read_text().split()
    texts = [path.read_text() for path in (root / "tests").rglob("*.py")]
    calls = [call for text in texts for call in re.findall(r"\bneeds?\((\"[^)]*\")\)", text)]
    programs = {program for call in calls for program in re.findall(r'"([\w.-]+)"', call)}
    packages = {needs.PACKAGES.get(program, program) for program in programs}
    assert "openssh-client" in packages
    assert (
        packages
        - {"", "buildah", "chromium", "dpkg", "libc-bin", "podman", "systemd", "util-linux"}
        - set(installed)
        == set()
    )


@pytest.mark.slow
def test_a_run_ends_with_the_reasons(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With our own hook, in another process."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    pytester.makeconftest("from tests.conftest import pytest_terminal_summary")
    pytester.makepyfile("""
        import pytest
        pytest.importorskip("nothing_like_it", reason="needs it (pip install it)")
    """)
    pytester.makepyfile(
        test_two="""
        import pytest
        def test_one(): pytest.skip("needs crun (apt install crun)")
        @pytest.mark.skipif(True, reason="needs crun (apt install crun)")
        def test_two(): pass
    """
    )
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(
        [
            "*= 3 skipped: why =*",
            "    2 needs crun (apt install crun)",
            "    1 needs it (pip install it)",
            "apt install crun    # up to 2 more tests run",
            "pip install it    # up to 1 more tests run",
        ],
        consecutive=True,
    )
