"""Errors on their way up: copies say more, and the one that others wait for stays as it was."""

from __future__ import annotations

import errno
import os

import pytest

from pybuild.model.digest import Digest
from pybuild.model.errors import (
    DamagedBlob,
    EnvironmentFault,
    InternalError,
    PybuildError,
    StepError,
    UserError,
    unwrap,
)
from pybuild.model.span import Span
from pybuild.net.http1.faults import ConnectionLost

_NEAR, _FAR = Span("Dockerfile", 3, 3), Span("Dockerfile", 1, 1)


@pytest.mark.parametrize("name", ["message", "hints", "spans", "sources", "status", "log_tail"])
def test_no_attribute_of_an_error_is_set_twice(name: str) -> None:
    error = StepError("exit code: 1", status=1)
    with pytest.raises(AttributeError, match=f"{name} of an error is set"):
        setattr(error, name, getattr(error, name))


def test_a_copy_says_more_and_the_error_stays_as_it_was() -> None:
    error = UserError("no such image", hints=["pull it"])
    fuller = (
        error.saying("a: no such image")
        .hinting("or build it")
        .with_spans([_NEAR])
        .showing({"Dockerfile": ["FROM a"]})
    )
    assert (error.message, error.hints, error.spans, error.sources) == (
        "no such image",
        ("pull it",),
        (),
        {},
    )
    assert (fuller.message, str(fuller)) == ("a: no such image", "a: no such image")
    assert fuller.hints == ("pull it", "or build it")
    assert fuller.spans == (_NEAR,)
    assert fuller.sources == {"Dockerfile": ["FROM a"]}


@pytest.mark.parametrize(
    "error",
    [
        StepError("exit code: 3", status=3, log_tail=["no space"]),
        DamagedBlob("damaged", digest=Digest.of(b"")),
        ConnectionLost("cut", status=0, unsent=True, tries=3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_copy_is_of_the_same_kind_with_all_that_the_kind_has(error: PybuildError) -> None:
    copied = error.hinting("do something")
    assert type(copied) is type(error)
    assert {**vars(copied), "hints": ()} == vars(error)


def test_the_place_nearest_to_the_cause_stays() -> None:
    error = UserError("no", spans=[_NEAR])
    assert error.with_spans([_FAR]) is error


def test_a_copy_keeps_cause_and_origin() -> None:
    try:
        try:
            raise OSError(28, "no space left")
        except OSError as cause:
            raise EnvironmentFault("disk full") from cause
    except EnvironmentFault as error:
        copied = error.hinting("free some space")
        assert copied.__cause__ is error.__cause__ is not None
        assert copied.__traceback__ is error.__traceback__ is not None
        assert copied.__suppress_context__


_FILES = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _raised(
    error: Exception, *, cause: Exception | None = None, after: Exception | None = None
) -> Exception:
    """Return *error* as if raised ``from`` *cause*, or while *after* was dealt with."""
    error.__cause__, error.__context__ = cause, after
    return error


@pytest.mark.parametrize(
    ("error", "message", "word"),
    [
        (_FILES, "too many open files", "ulimit -n"),
        (OSError(errno.ENFILE, ""), "too many open files in the system", "fs.file-max"),
        (OSError(errno.ENOMEM, ""), "out of memory", "ulimit -v"),
        (MemoryError(), "out of memory", "ulimit -v"),
        (RuntimeError("can't start new thread"), "cannot start a thread", "ulimit -u"),
        (ExceptionGroup("", [ExceptionGroup("", [MemoryError()])]), "out of memory", "ulimit -v"),
        (
            _raised(RuntimeError("cannot close a running event loop"), after=_FILES),
            "too many open files",
            "ulimit -n",
        ),
        (_raised(InternalError("step: "), cause=MemoryError()), "step: ", "ulimit -v"),
        (
            _raised(UserError("open Dockerfile: too many", hints=["put it there"]), cause=_FILES),
            "open Dockerfile: too many",
            "ulimit -n",
        ),
    ],
)
def test_a_limit_of_the_machine_is_no_bug(error: Exception, message: str, word: str) -> None:
    fault = unwrap(error)
    assert isinstance(fault, EnvironmentFault)
    assert fault.message == message
    assert len(fault.hints) == 1
    assert word in fault.hints[0]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        OSError(errno.ENOENT, ""),
        RuntimeError("other"),
        _raised(UserError("no such image"), after=_FILES),
    ],
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    assert unwrap(error) is error


def test_an_error_that_is_its_own_cause_is_looked_at_once() -> None:
    first, second = UserError("a"), UserError("b")
    first.__cause__, second.__cause__ = second, first
    assert unwrap(first) is first
