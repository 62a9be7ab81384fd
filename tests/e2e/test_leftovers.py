"""Files come out of steps that fail: those that a comment names, else those that the step changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.e2e.remotes import Remote, remote, server, there
from tests.harness import Pybuild, write

__all__ = ["remote", "server", "there"]

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def listing(folder: Path) -> list[str]:
    """All files of a directory, by their paths in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def failing(tmp_path: Path, step: str, comment: str = "") -> Path:
    text = f"FROM base\nWORKDIR /src\nRUN echo old > /src/before\n{comment}RUN {step}; exit 3\n"
    return write(tmp_path / "c", Dockerfile=text)


def test_what_a_comment_names_comes_out_of_a_failed_step(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """Paths, several of them, globs, and such as are relative to the step's directory."""
    step = "mkdir -p out/deep && echo r > report.xml && echo c > out/a.core && echo d > out/deep/d.core"
    comment = "# pybuild: keep=/src/report.xml,out/*.core keep=/nope\n# pybuild: keep=/**/d.core\n"
    out = tmp_path / "out"
    done = pybuild("build", "--on-fail-output", out, failing(tmp_path, step, comment), code=1)
    assert listing(out) == ["src/out/a.core", "src/out/deep/d.core", "src/report.xml"]
    assert (out / "src/report.xml").read_text() == "r\n"
    assert f"hint: look into {out}: 3 files of the failed step (6B)\n" in done.err
    assert "hint: not there: /nope\n" in done.err
    assert "| >>> RUN mkdir" in done.err


def test_what_the_step_changed_comes_out_where_nothing_is_named(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    context = failing(tmp_path, "echo n > new && mkdir -p /d && echo x > /d/x && rm before")
    pybuild("build", "--on-fail-output", out, context, code=1)
    assert listing(out) == ["d/x", "src/new"]


def test_a_build_that_succeeds_makes_no_directory(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    context = write(tmp_path / "c", Dockerfile="FROM base\nRUN true\n")
    for _ in range(2):
        pybuild("build", "--on-fail-output", tmp_path / "out", context)
    assert not (tmp_path / "out").exists()


def test_nothing_harmful_comes_out(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    """Links lead nowhere outside, no special bits, no pipes; a link named is read inside the tree."""
    out = write(tmp_path / "out", mine="mine")
    (out / "trap").symlink_to(tmp_path)
    step = (
        "ln -s /etc/passwd abs && ln -s ../../../etc up && ln -s file near && echo f > file && "
        "mkdir trap && echo t > trap/t && cp file suid && chmod 4777 suid && "
        "mkdir -p /trap && echo t > /trap/t && ln -s /src/file /named"
    )
    comment = "# pybuild: keep=/src,/named,/trap\n"
    done = pybuild("build", "--on-fail-output", out, failing(tmp_path, step, comment), code=1)
    assert listing(out) == [
        *("mine", "named", "src/before", "src/file", "src/near", "src/suid", "src/trap/t", "trap/t")
    ]
    assert (out / "named").read_text() == "f\n" and not (out / "named").is_symlink()
    assert os.readlink(out / "src/near") == "file"
    assert stat.S_IMODE((out / "src/suid").stat().st_mode) == 0o755
    assert not (tmp_path / "t").exists() and "2 links that lead out" in done.err


def test_mounts_of_the_step_are_looked_into(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = write(
        tmp_path / "c",
        **{
            "Dockerfile": "FROM base AS other\nCOPY sub /sub\n"
            "FROM base\n# pybuild: keep=/m/made,/m/given,/t/gone\n"
            "RUN --mount=from=other,source=sub,target=/m,rw --mount=type=tmpfs,target=/t "
            "echo m > /m/made; echo t > /t/gone; exit 1\n",
            "sub/given": "g",
        },
    )
    out = tmp_path / "out"
    done = pybuild("build", "--on-fail-output", out, context, code=1)
    assert listing(out) == ["m/given", "m/made"] and "not there: /t/gone" in done.err


def test_files_come_from_a_build_server(remote: Remote, tmp_path: Path) -> None:
    out = tmp_path / "out"
    comment = "# pybuild: keep=/src/new,/nope\n"
    step = "echo n > new; ln -s /etc abs"
    done = remote("build", "--on-fail-output", out, failing(tmp_path, step, comment), code=1)
    assert listing(out) == ["src/new"]
    assert "look into the directory of --on-fail-output: 1 file of the failed step" in done.err
    assert "not there: /nope" in done.err
    remote("build", "--on-fail-output", tmp_path / "more", failing(tmp_path, step), code=1)
    assert listing(tmp_path / "more") == ["src/new"]


def test_files_of_a_target_have_its_name(pybuild: Pybuild, base: str, tmp_path: Path) -> None:
    context = failing(tmp_path, "echo n > new")
    write(context, **{"docker-bake.hcl": 'target "app" {}\n'})
    out = tmp_path / "out"
    done = pybuild("bake", "--on-fail-output", out, "app", cwd=context, code=1)
    assert listing(out) == ["app/src/new"] and f"look into {out / 'app'}: 1 file" in done.err


def test_what_is_too_much_is_left_out_and_named(
    pybuild: Pybuild, base: str, tmp_path: Path
) -> None:
    """A large file, as core dumps are; what follows it comes nevertheless."""
    out = tmp_path / "out"
    step = "echo > big && echo small > small"
    context = write(
        tmp_path / "c",
        Dockerfile="FROM base\nCOPY huge /src/a\nWORKDIR /src\n"
        f"# pybuild: keep=*\nRUN {step}; exit 1\n",
    )
    with open(context / "huge", "wb") as file:
        file.truncate(257 << 20)
    done = pybuild("build", "--on-fail-output", out, context, code=1)
    assert listing(out) == ["src/big", "src/small"]
    assert "hint: left out, beyond 10000 files or 256MiB: /src/a; name what you want" in done.err
