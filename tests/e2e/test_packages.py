"""The packages that users install, made by one script and tried where nothing of this checkout is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.harness import ROOT, Pybuild, write
from tests.needs import need

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
DEBIANS = Path("/usr/bin/python3")
FILE = "FROM base\nRUN echo made > /m\n"


def package(
    out: Path, *kinds: str, env: Mapping[str, str] | None = None, umask: int = 0o022
) -> None:
    """Run the script, or skip the test where it has no index of packages."""
    if not (ROOT / ".git").exists() or not (ROOT / ".venv/bin/python").exists():
        pytest.skip("needs a git checkout with .venv")
    done = subprocess.run(
        [ROOT / "scripts/package", out, *kinds],
        env={**os.environ, **(env or {})},
        umask=umask,
        capture_output=True,
        text=True,
        timeout=580,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("no index of packages is in reach")
    assert done.returncode == 0, done.stderr


def build_with(program: Path, pybuild: Pybuild, tmp_path: Path) -> None:
    """Build and run with nothing of ours in the environment."""
    context = write(tmp_path / "c", Dockerfile=FILE)
    (tmp_path / "home").mkdir()
    env = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}

    def run(command: str, *words: str) -> str:
        done = subprocess.run(
            [str(program), command, "--root", str(pybuild.store), *words],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("build", "-t", "made:1", str(context))
    assert run("run", "--rm", "made:1", "cat", "/m") == "made\n"


def test_the_wheel_is_the_same_to_the_byte(tmp_path: Path) -> None:
    """The same bytes under another umask, in another directory and at another hour."""
    pytest.importorskip("build")
    package(tmp_path / "one", "wheel")
    package(tmp_path / "two", "wheel", env={"TZ": "Asia/Tokyo"}, umask=0o077)
    (one,), (two,) = (list((tmp_path / name).glob("*.whl")) for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as wheel:
        (points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert "pybuild.testing.plugin" in wheel.read(points).decode()


def test_manual_pages_are_good_roff(tmp_path: Path) -> None:
    need("groff")
    need("lexgrog")
    pytest.importorskip("build")
    package(tmp_path / "out", "man")
    pages = sorted((tmp_path / "out/man").iterdir())
    assert {"pybuild.1", "pybuild-build.1", "pybuild-bake.1"} <= {page.name for page in pages}
    words = ["groff", "-man", "-Tutf8", "-ww", "-z", *map(str, pages)]
    checked = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    assert checked.stderr == ""
    subprocess.run(["lexgrog", *pages], capture_output=True, timeout=60, check=True)


def test_a_single_file_and_a_debian_package_build(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    need("dpkg-deb")
    pytest.importorskip("build")
    if not DEBIANS.exists():
        pytest.skip(f"needs {DEBIANS}")
    package(tmp_path / "out", "single", "deb")
    (tmp_path / "one").mkdir()
    build_with(tmp_path / "out/pybuild", pybuild, tmp_path / "one")
    (deb,) = (tmp_path / "out").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", deb, tmp_path / "root"], timeout=60, check=True)
    (tmp_path / "two").mkdir()
    build_with(tmp_path / "root/usr/bin/pybuild-oci", pybuild, tmp_path / "two")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as files:
        with tarfile.open(fileobj=files.stdout, mode="r|") as tar:
            entries = {entry.name: entry for entry in tar}
        assert files.wait(60) == 0
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
    assert not any(
        entry.mode & (stat.S_IWGRP | stat.S_IWOTH)
        for entry in entries.values()
        if not entry.issym()
    )
    assert "./usr/share/man/man1/pybuild-oci-build.1.gz" in entries


def python_root(folder: Path) -> Path:
    """Return a root directory with Debian's Python and what it loads, and nothing else but busybox's shell."""
    minor = subprocess.run(
        [DEBIANS, "-Sc", "import sys; print('python%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.strip()  # fmt: skip
    library = Path("/usr/lib") / minor
    skipped = shutil.ignore_patterns("__pycache__", "test", "idlelib", "tkinter", "ensurepip")
    shutil.copytree(library, folder / str(library)[1:], symlinks=True, ignore=skipped)
    real = DEBIANS.resolve()
    loaded: set[str] = set()
    for program in (real, *library.glob("lib-dynload/*.so")):
        listed = subprocess.run(
            ["ldd", program], capture_output=True, text=True, timeout=60, check=False
        ).stdout
        loaded |= {word for word in listed.split() if word.startswith("/")}
    # Wheels load parts of the C library that it has no more but by name, and C++'s.
    libc = next(path for path in loaded if "/libc.so" in path)
    for name in ("librt.so.1", "libpthread.so.0", "libdl.so.2", "libgcc_s.so.1", "libstdc++.so.6"):
        loaded |= {str(path) for path in Path(libc).parent.glob(name)}
    for path in (str(real), *loaded):
        target = folder / path[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    (folder / "usr/bin/python3").symlink_to(real)
    return folder


def test_an_image_of_pybuild_builds_in_a_container(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """As root of a container without privilege, in a root that has a Python and nothing of this machine."""
    pytest.importorskip("build")
    need("ldd")
    if not DEBIANS.exists():
        pytest.skip(f"needs {DEBIANS}")
    context = write(
        tmp_path / "p",
        Dockerfile="FROM base\nCOPY root/ /\nRUN mkdir -p /usr/bin; ln -s /bin/busybox /usr/bin/env\n",
    )
    python_root(context / "root")
    pybuild("build", "-t", "python:here", context)
    package(tmp_path / "out", "image", env={**pybuild.environment, "BASE": "python:here"})
    assert (tmp_path / "out/pybuild-image.tar").stat().st_size
    name = next(
        line
        for line in pybuild("images", "--format", "{{.Repository}}:{{.Tag}}").out.splitlines()
        if line.startswith("pybuild:")
    )
    assert pybuild("run", "--rm", name, "--version").out.startswith("pybuild ")
    inner = write(tmp_path / "c", Dockerfile="FROM scratch\nCOPY f /f\n", f="inside")
    inner.chmod(0o755)
    out = tmp_path / "made"
    out.mkdir()
    out.chmod(0o777)
    words = ["run", "--rm", "-v", f"{inner}:/workspace:ro", "-v", f"{out}:/made", name]
    pybuild(*words, "build", "-o", "type=local,dest=/made", ".")
    assert (out / "f").read_text() == "inside"
    link = ["run", "--rm", "-v", f"{inner}:/workspace:ro", "--entrypoint", "/kaniko/executor", name]
    pybuild(*link, "--no-push", "--context=dir:///workspace")
