"""The links of STYLE section 4 hold, in the checkout and in the wheel; rooms import as they may."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = [
    "bake",
    "buildkit",
    "builds",
    "cache",
    "client",
    "cluster",
    "commandline",
    "containers",
    "daemon",
    "engine",
    "executor",
    "explain",
    "exporter",
    "frontend",
    "grammar",
    "history",
    "image",
    "model",
    "net",
    "networks",
    "progress",
    "registry",
    "remotecache",
    "solver",
    "testing",
    "volumes",
    "web",
]


@pytest.mark.parametrize("room", ROOMS)
def test_link_resolves_to_its_room(room: str) -> None:
    link = ROOT / "pybuild" / room
    assert link.is_symlink()
    assert link.resolve() == ROOT / room


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "grammar"])
def test_a_rooms_face_imports_nothing(room: str) -> None:
    """Importing any module of a room runs its ``__init__``: it must cost nothing."""
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
        f"import pybuild.{room}\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert set(done.stdout.split()) <= {"__future__", "pybuild", f"pybuild.{room}"}


@pytest.mark.slow
def test_rooms_import_only_what_they_may() -> None:
    pytest.importorskip("importlinter")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_the_files_of_the_package_and_nothing_else(tmp_path: Path) -> None:
    """Shows 6: each tracked source file under ``pybuild/``, links followed."""
    pytest.importorskip("build")
    copy = tmp_path / "copy"
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    if tracked.returncode:
        pytest.skip("not a git checkout")
    names = [name for name in tracked.stdout.decode().split("\0") if name]
    for name in names:
        source, target = ROOT / name, copy / name
        if not source.exists() and not source.is_symlink():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
        else:
            target.write_bytes(source.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, copy],
        capture_output=True,
        timeout=120,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    package = {name for name in held if ".dist-info/" not in name}
    assert all(name.startswith("pybuild/") for name in package)
    wanted: set[str] = set()
    for name in names:
        room, _, _ = name.partition("/")
        kinds = (
            ".bash",
            ".bin",
            ".css",
            ".fish",
            ".js",
            ".json",
            ".lark",
            ".md",
            ".py",
            ".pyi",
            ".toml",
            ".zsh",
            "py.typed",
        )
        if name.endswith(kinds) and room in {*ROOMS, "pybuild"}:
            wanted.add(name if room == "pybuild" else f"pybuild/{name}")
    assert package == wanted
