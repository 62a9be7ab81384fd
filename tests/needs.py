"""The programs that tests run, and the Debian packages to install for them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PACKAGES = {
    "busybox": "busybox-static",
    "crane": "",
    "docker": "docker.io",
    "dpkg-deb": "dpkg",
    "dockerd": "docker.io",
    "git-upload-pack": "git",
    "htpasswd": "apache2-utils",
    "ip": "iproute2",
    "ldd": "libc-bin",
    "lexgrog": "man-db",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "nsenter": "util-linux",
    "ps": "procps",
    "setpriv": "util-linux",
    "ssh-add": "openssh-client",
    "ssh-agent": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}
"""By program, empty where Debian has none; any other is in a package of its own name."""


def lacking(*programs: str) -> str:
    """Return why a test that runs *programs* has to be skipped, or nothing."""
    for program in programs:
        path = shutil.which(program)
        if path is None or (program == "busybox" and not is_static(Path(path))):
            package = PACKAGES.get(program, program)
            return f"needs {program} (apt install {package})" if package else f"needs {program}"
    return ""


def is_static(program: Path) -> bool:
    """Tell whether a program runs where there is no library: Debian has a busybox of either kind."""
    return b"/ld-" not in program.read_bytes()[:4096]


def need(*programs: str) -> None:
    """Skip the running test unless all *programs* are installed."""
    if why := lacking(*programs):
        pytest.skip(why)


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return the mark of tests that run *programs*."""
    why = lacking(*programs)
    return pytest.mark.skipif(bool(why), reason=why)
