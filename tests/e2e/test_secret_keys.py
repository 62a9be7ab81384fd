"""``--secret id=…,key=true``: a step runs again when the value has changed [issue 14, habits]."""

from __future__ import annotations

import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

import pybuild as library
from pybuild.model.errors import UsageError
from tests.harness import Done, Pybuild, write

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]

WORD = "low-entropy-4711"
FILE = """\
FROM base
RUN echo before
RUN --mount=type=secret,id=s,env=A --mount=type=secret,id=t,env=B test -n "$A" && echo "$B" > /b
RUN echo after
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write(tmp_path / "ctx", Dockerfile=FILE)


def build(pybuild: Pybuild, context: Path, *options: str, s: str, code: int = 0) -> Done:
    words = ["build", "--progress=plain", "-t", "x", "--secret", "id=s,env=S,key=true"]
    words += ["--secret", "id=t,env=T", *options, str(context)]
    return pybuild(*words, env={"S": s, "T": f"t{len(s)}"}, code=code)


def cached_runs(done: Done) -> list[str]:
    """Return the RUNs that were not run again."""
    numbers = re.findall(r"^#(\d+) CACHED$", done.err, re.MULTILINE)
    steps = dict(re.findall(r"^#(\d+) \[.*\] RUN (.*)$", done.err, re.MULTILINE))
    return [steps[number] for number in numbers if number in steps]


@pytest.mark.usefixtures("base")
def test_a_changed_value_runs_what_mounts_it_and_no_other_step(
    pybuild: Pybuild, context: Path
) -> None:
    build(pybuild, context, s=WORD)
    build(pybuild, context, "--fail-on-miss", s=WORD)
    refused = build(pybuild, context, "--fail-on-miss", s="other", code=1).err
    assert "the value of the secret s is another one" in refused
    assert cached_runs(build(pybuild, context, s="other")) == ["echo before"]
    assert pybuild("run", "x", "cat", "/b").out == "t5\n"
    # That of the other secret never counts, and none does without key=true.
    once = ("build", "--fail-on-miss", "--secret=id=s,env=S,key=1", context)
    pybuild(*once, env={"S": WORD})
    unkeyed = ("build", "--secret=id=s,env=S", context)
    pybuild(*unkeyed, env={"S": "1"})
    pybuild(*unkeyed, "--fail-on-miss", env={"S": "2"})


@pytest.mark.usefixtures("base")
def test_nothing_that_is_stored_or_exported_lets_values_be_tried(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    more = (f"--cache-to=type=local,mode=max,dest={cache}", f"--metadata-file={tmp_path}/meta")
    provenance = f"--output=type=oci,tar=false,dest={tmp_path}/oci"
    build(pybuild, context, *more, provenance, "--provenance=mode=max", s=WORD)
    guesses = [WORD.encode(), sha256(WORD.encode()).hexdigest().encode()]
    for root in (cache, tmp_path / "oci", tmp_path / "meta", pybuild.store):
        files = [root] if root.is_file() else [one for one in root.rglob("*") if one.is_file()]
        assert files
        for file in files:
            data = file.read_bytes()
            assert not any(guess in data for guess in guesses), file
    assert (pybuild.store / "registry/key").stat().st_mode & 0o077 == 0


def test_another_store_has_other_keys(base_store: Path, context: Path, tmp_path: Path) -> None:
    """So a shared cache serves the steps that mount no such secret."""
    cache = tmp_path / "cache"
    results: list[list[str]] = []
    for number, more in enumerate(([f"--cache-to=type=local,mode=max,dest={cache}"], [])):
        store = tmp_path / f"store{number}"
        subprocess.run(["cp", "-a", base_store, store], check=True, timeout=60)
        (store / "registry/key").unlink(missing_ok=True)
        done = build(
            Pybuild(store), context, *(more or [f"--cache-from=type=local,src={cache}"]), s=WORD
        )
        results.append(cached_runs(done))
    assert results == [[], ["echo before"]]


@pytest.mark.usefixtures("base")
def test_a_server_is_not_asked_for_what_only_this_store_can_do(
    pybuild: Pybuild, context: Path, tmp_path: Path
) -> None:
    done = build(pybuild, context, "-H", f"unix://{tmp_path}/none.sock", s="v", code=2)
    assert "error: --secret key=true is about the keys of this machine's store" in done.err
    assert "--build-arg NAME=VERSION" in done.err


@pytest.mark.usefixtures("base")
def test_the_python_api_has_it(pybuild: Pybuild, context: Path) -> None:
    def cached(value: bytes) -> bool:
        return library.build(
            context,
            secrets={"s": value, "t": os.urandom(4).hex().encode()},
            secrets_in_key=["s"],
            root=pybuild.store,
        ).is_fully_cached

    assert [cached(value) for value in (b"1", b"1", b"2")] == [False, True, False]
    with pytest.raises(UsageError, match='there is no secret "u"'):
        library.build(context, secrets_in_key=["u"], root=pybuild.store)
