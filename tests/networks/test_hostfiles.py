"""The lines of a container's hosts file that follow its networks and links [NET-10, NET-15]."""

from __future__ import annotations

import pytest

from pybuild.networks.hostfiles import moved_hosts

_OWN = "10.0.0.2\tweb"
_LINK = "10.0.0.3\tdata 0123456789ab database"


def test_own_lines_are_as_they_are_now_and_others_stay() -> None:
    text = f"127.0.0.1\tlocalhost\n{_OWN}\n1.2.3.4\tgiven\n"
    moved = moved_hosts(text, [_OWN], ["10.0.0.9\tweb"])
    assert moved == "127.0.0.1\tlocalhost\n1.2.3.4\tgiven\n10.0.0.9\tweb\n"


@pytest.mark.parametrize(
    "link", [_LINK, "10.0.0.3\tdata 0123456789ab", "fd00::3\td abcdefabcdef d1"]
)
def test_a_link_that_another_helper_wrote_goes_too(link: str) -> None:
    """Its address may be another container's by now, and would come first."""
    assert (
        moved_hosts(f"{link}\n", [], [_LINK.replace(".3", ".4")]) == "10.0.0.4" + _LINK[8:] + "\n"
    )


@pytest.mark.parametrize(
    "line",
    [
        "10.0.0.3\tdata",
        "10.0.0.3\ta b c d",
        "10.0.0.3\ta b c",
        "# \t",
        "10.0.0.3\ta 0123456789ag",
        "",
    ],
)
def test_what_a_user_wrote_is_no_link(line: str) -> None:
    assert moved_hosts(f"{line}\n", [], []) == f"{line}\n"
