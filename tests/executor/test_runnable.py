"""Platforms whose programs run here, as a server tells its clients [DMN, IMG-20]."""

from __future__ import annotations

from pathlib import Path

import pytest

from pybuild.engine.host import native_platform
from pybuild.executor.runnable import runnable
from pybuild.model.platform import Platform

AMD64 = Platform.parse("linux/amd64")
V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"


def machine(folder: Path, *, flags: str = "fpu", handlers: dict[str, str] | None = None) -> str:
    binfmt = folder / "sys/fs/binfmt_misc"
    binfmt.mkdir(parents=True)
    (folder / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    for name, text in (handlers or {}).items():
        (binfmt / name).write_text(text)
    return str(folder)


def names(platforms: tuple[Platform, ...]) -> list[str]:
    return [str(one).removeprefix("linux/") for one in platforms]


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        ("fpu", []),
        (V2, ["amd64/v2"]),
        (V3, ["amd64/v2", "amd64/v3"]),
        (V3.replace("lahf_lm", ""), []),
        (f"{V3} avx512bw avx512cd avx512dq avx512f avx512vl", ["amd64/v2", "amd64/v3", "amd64/v4"]),
    ],
)
def test_a_level_needs_all_below_it(tmp_path: Path, flags: str, levels: list[str]) -> None:
    assert names(runnable(AMD64, machine(tmp_path, flags=flags))) == ["amd64", *levels]


def test_a_kernel_that_runs_32_bit_programs_says_so(tmp_path: Path) -> None:
    proc = machine(tmp_path)
    (tmp_path / "sys/abi").mkdir()
    (tmp_path / "sys/abi/vsyscall32").write_text("1\n")
    assert names(runnable(AMD64, proc)) == ["amd64", "386"]
    assert names(runnable(Platform.parse("linux/arm64"), proc)) == ["arm64"]


def test_emulators_count_that_are_on_and_work_in_any_tree(tmp_path: Path) -> None:
    text = "enabled\ninterpreter /usr/bin/qemu\nflags: OCF\noffset 0\n"
    handlers = {
        "qemu-arm": text,
        "qemu-aarch64": text,
        "qemu-riscv64": text.replace("enabled", "disabled"),
        "qemu-s390x": text.replace("OCF", "OC"),
        "python3.11": text,
    }
    found = runnable(AMD64, machine(tmp_path, handlers=handlers))
    assert names(found) == ["amd64", "arm64", "arm/v7", "arm/v6"]


def test_this_machine_runs_its_own_programs() -> None:
    found = runnable(native_platform())
    assert found[0] == native_platform()
    assert len(set(found)) == len(found)
