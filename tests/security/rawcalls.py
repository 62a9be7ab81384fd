"""Programs that make given system calls, of 64 or of 32 bits, with no library in between.

Each is static, so that it runs in any root, and writes what each call returned on a line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

Value = int | bytes | Sequence["Value"]
Call = tuple[int, Sequence[Value]]
"""A number and its arguments: a number, bytes in memory, or an array in memory of such values."""

_REGISTERS = {
    64: ("rax", "rdi", "rsi", "rdx", "r10", "r8", "r9"),
    32: ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp"),
}
_TRAP = {64: "syscall", 32: "int $0x80"}
# Writes eax as eight digits and a new line: write(2) is 1 of 64 bits, and 4 of 32.
_SHOW = """
show:
    mov $8, %ecx
    lea text, {destination}
digit:
    rol $4, %eax
    mov %eax, %ebx
    and $15, %ebx
    mov digits({index}), %bl
    mov %bl, ({destination})
    inc {destination}
    dec %ecx
    jnz digit
    {write}
    ret
.data
digits: .ascii "0123456789abcdef"
text: .ascii "--------\\n"
"""
_WRITE = {
    64: "mov $1, %eax\n mov $1, %edi\n lea text, %rsi\n mov $9, %edx\n syscall",
    32: "mov $4, %eax\n mov $1, %ebx\n lea text, %ecx\n mov $9, %edx\n int $0x80",
}
_EXIT = {
    64: "mov $60, %eax\n xor %edi, %edi\n syscall",
    32: "mov $1, %eax\n xor %ebx, %ebx\n int $0x80",
}


def build(path: Path, calls: Sequence[Call], *, bits: int = 64) -> None:
    """Write the program *path*."""
    if os.uname().machine != "x86_64":
        pytest.skip("call numbers of x86")
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    code, data = [".globl _start", "_start:"], [".data"]
    for number, args in calls:
        for register, value in zip(_REGISTERS[bits], (number, *args), strict=False):
            code.append(f"mov ${_operand(value, data)}, %{register}")
        code += [_TRAP[bits], "call show"]
    show = _SHOW.format(
        destination="%rsi" if bits == 64 else "%esi",
        index="%rbx" if bits == 64 else "%ebx",
        write=_WRITE[bits],
    )
    text = "\n".join([*code, _EXIT[bits], show, *data, ""])
    command = ["gcc", f"-m{bits}", "-static", "-nostdlib", "-no-pie", "-x", "assembler"]
    done = subprocess.run(
        [*command, "-o", str(path), "-"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode and bits == 32:
        pytest.skip("gcc makes no programs of 32 bits")
    assert done.returncode == 0, done.stderr


def _operand(value: Value, data: list[str]) -> str:
    """Return a value as the assembler has it, in *data* what it points to."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        directive = f".byte {', '.join(map(str, (*value, 0)))}"
    else:
        directive = f".long {', '.join(_operand(one, data) for one in value)}"
    data.append(f"data{len(data)}: {directive}")
    return f"data{len(data) - 1}"


def results(output: str) -> list[int]:
    """Return what the calls of such a program returned, negative ones as such."""
    numbers = [int(line, 16) for line in output.split()]
    return [number - (1 << 32) if number >> 31 else number for number in numbers]
