"""``pybuild run -t``: a real pseudo-terminal on both sides."""

from __future__ import annotations

import pytest

from tests.e2e.people import Person
from tests.harness import Pybuild

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def test_a_shell_has_job_control_and_ctrl_c_is_its_own(pybuild: Pybuild, base: str) -> None:
    person = Person(pybuild.command("run", "-it", base, "sh"), pybuild.environment)
    person.expect(b"# ")
    person.type(b"echo $((6*7))\n")
    person.expect(b"42")
    # The program that gets the signal says itself that it is there.
    person.type(b"sh -c 'echo begun; exec sleep 600'\n")
    person.expect(b"begun\r\n")
    person.type(b"\x03")
    person.expect(b"# ")
    person.type(b"exit 3\n")
    assert person.status() == 3
    pybuild("rm", *pybuild("ps", "-aq").out.split())


def test_keys_of_ones_own_leave_and_what_is_inside_hears_of_sizes_and_of_ctrl_c(
    pybuild: Pybuild, base: str
) -> None:
    """[ENG-36, CTR-22]"""
    traps = "trap 'busybox stty size' WINCH; trap 'exit 9' INT"
    script = f"{traps}; echo ready; while :; do sleep 0.1; done"
    options = ("--rm", "-it", "--name", "one", "--detach-keys", "ctrl-a,q")
    words = pybuild.command("run", *options, base, "sh", "-c", script)
    person = Person(words, pybuild.environment)
    person.expect(b"ready")
    person.resize(20, 70)
    person.expect(b"20 70")
    person.type(b"\x10\x11\x01q")  # the first two are input here
    assert person.status() == 0
    person = Person(pybuild.command("exec", "-it", "one", "sh"), pybuild.environment)
    person.expect(b"# ")
    person.type(b"sh -c 'echo begun; exec sleep 600'\n")
    person.expect(b"begun\r\n")
    person.type(b"\x03")
    person.expect(b"# ")
    person.resize(30, 60)
    person.type(b'while [ "$(busybox stty size)" != "30 60" ]; do sleep 0.1; done\n')
    person.type(b"echo as $((6*7)); exit 4\n")
    person.expect(b"as 42")
    assert person.status() == 4
    person = Person(pybuild.command("attach", "one"), pybuild.environment)
    person.expect(b"24 80")  # as large as whoever is attached now
    person.type(b"\x03")
    assert person.status() == 9
    pybuild("rm", "-f", "one", code=None)  # which its monitor may have done already
    assert pybuild("ps", "-aq").out == ""
