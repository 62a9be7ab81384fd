"""Completion scripts, made from the tables of commands and run by the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pybuild.cli import main
from pybuild.commandline import every, find
from pybuild.commandline.completion import SHELLS, WordKind, completion, positions_of, value_of
from pybuild.model.options import STEP_OPTIONS
from tests.harness import Pybuild, make_base
from tests.needs import need

# What is typed, and what the shell offers for its last word.
TYPED = {
    "pybuild bu": ["build", "builder", "buildx"],
    "pybuild build --net": ["--network"],
    "pybuild build --network ": ["default", "host", "none"],
    "pybuild run --log-driver ": ["json-file", "local", "none"],
    "pybuild -t app:1 . --modes ": ["git", "keep"],
    "pybuild --root /x images --form": ["--format"],
    "pybuild builder ": ["add", "inspect", "ls", "rm", "use"],
    "pybuild cache ": ["mounts"],
    "pybuild image l": ["list", "load", "ls"],
    "pybuild image rm a": ["app:1", "app:2"],
    "pybuild image prune --filt": ["--filter"],
    "pybuild cache mounts ": ["export", "import", "inspect", "ls", "rm"],
    "pybuild completion ": ["bash", "fish", "zsh"],
    "pybuild run -e A=1 a": ["app:1", "app:2"],
    "pybuild rmi app:1 a": ["app:1", "app:2"],
    "pybuild unpack app:1 /proc/self/tas": ["/proc/self/task"],
}
STORE = "REPOSITORY TAG ID\napp 1 x\napp 2 x\n<none> <none> x\nlocalhost:5000/z latest x\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A ``pybuild`` that knows three images."""
    path = tmp_path / "bin/pybuild"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nprintf %s {shlex.quote(STORE)}\n")
    path.chmod(0o755)
    return path


def run(shell: str, script: str, program: Path) -> str:
    """Run *script* in a shell that has read our completion."""
    table = program.with_name(f"completion.{shell}")
    table.write_text(completion(shell, every()))
    done = subprocess.run(
        [shell, "-c", f"source {table}\n{script}"],
        env={"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(program.parent)},
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def bash(line: str, program: Path) -> list[str]:
    script = f"COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n_pybuild\n"
    return sorted(run("bash", script + 'printf "%s\\n" "${COMPREPLY[@]}"', program).split())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_and_option_is_in_each_script(shell: str) -> None:
    script = completion(shell, every())
    option_form = "-l {}" if shell == "fish" else "--{}"
    for command in every():
        assert command.name.partition(" ")[0] in script
        for option in command.options:
            assert option_form.format(option.name) in script


def test_values_that_are_few_are_named_in_the_help() -> None:
    for command in every():
        for option in command.options:
            assert all(value in option.help for value in option.values)


def test_what_a_word_can_be_is_read_from_the_tables() -> None:
    build = find("build")
    assert build is not None
    offers = {option.name: value_of(option) for option in build.options if option.metavar}
    assert offers["network"] == ("default", "none", "host")
    assert (offers["file"], offers["root"]) == (WordKind.FILES, WordKind.DIRECTORIES)
    assert (offers["tag"], offers["memory"]) == (WordKind.IMAGES, WordKind.NOTHING)
    assert {o.name for o in STEP_OPTIONS if o.has_flag} <= offers.keys()
    assert positions_of(build) == [WordKind.FILES, WordKind.NOTHING]


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "tcsh"]) == 2
    assert capsys.readouterr().err.startswith(
        'error: no completion for "tcsh": one of bash, zsh, fish'
    )


@pytest.mark.slow
@pytest.mark.parametrize("line", TYPED)
def test_bash_offers(line: str, program: Path) -> None:
    assert bash(line, program) == TYPED[line]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("pybuild build --network=n", ["none"]),  # bash replaces only what follows "="
        ("pybuild build --pull=", ["false", "true"]),
        ("pybuild run app:", ["1", "2"]),  # and ":"
        ("pybuild registry rm localhost:50", ["5000/z:latest"]),
        ("pybuild run app:1 --net", []),  # the program's own words
        ("pybuild build --file Do", []),  # which leaves files to bash
        ("pybuild build --build-arg ", []),
    ],
)
def test_bash_cuts_words_where_we_do_not(line: str, offered: list[str], program: Path) -> None:
    assert bash(line, program) == offered


@pytest.mark.slow
def test_bash_puts_an_option_in_front_where_it_does_not_cut_at_it(program: Path) -> None:
    line = "pybuild build --network=n"
    script = f"COMP_WORDBREAKS=' '\nCOMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}\n_pybuild"
    assert run("bash", script + "\necho ${COMPREPLY[@]}", program) == "--network=none\n"


@pytest.mark.sandbox
@pytest.mark.slow
def test_names_of_images_are_those_of_the_store(pybuild: Pybuild, tmp_path: Path) -> None:
    make_base(pybuild, tmp_path / "base", "registry.example:5000/base:7")
    program = tmp_path / "bin/pybuild"
    program.parent.mkdir()
    words = [sys.executable, "-P", "-m", "pybuild", "--root", str(pybuild.store)]
    settings = [f"PYTHONPATH={os.path.dirname(os.path.dirname(os.path.dirname(__file__)))}"]
    program.write_text(f'#!/bin/sh\nexec env {shlex.join([*settings, *words])} "$@"\n')
    program.chmod(0o755)
    assert bash("pybuild history reg", program) == ["registry.example:5000/base:7"]


@pytest.mark.slow
def test_fish_offers(program: Path) -> None:
    need("fish")
    script = "\n".join(
        f"echo (complete -C {shlex.quote(line)} | string split -f1 \\t | string trim -r -c /)"
        for line in TYPED
    )
    answers = run("fish", script, program).splitlines()
    assert {line: sorted(answer.split()) for line, answer in zip(TYPED, answers, strict=True)} == (
        TYPED
    )


@pytest.mark.slow
def test_zsh_offers(program: Path) -> None:
    need("zsh")
    table = program.with_name("_pybuild")
    table.write_text(completion("zsh", every()))
    subprocess.run(["zsh", "-f", "-n", table], check=True, timeout=60)
    environment = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(program.parent),
        "TERM": "xterm",
    }
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment)
    try:
        setup = f"bindkey -e; autoload -Uz compinit; compinit -u -D; source {table}; echo rea''dy\n"
        os.write(terminal, setup.encode())
        _read_until(terminal, b"ready")
        os.write(terminal, b"pybuild bu\t\t")
        _read_until(terminal, b"Name build servers, and choose the one that builds")
        os.write(terminal, b"\x15pybuild build --network=no\t")
        _read_until(terminal, b"none")
        os.write(terminal, b"\x15pybuild run ap\t\t")
        _read_until(terminal, b"app:2")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def _read_until(terminal: int, text: bytes) -> None:
    said, deadline = b"", time.monotonic() + 60
    while text not in said:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, said
        said += os.read(terminal, 1 << 16)
