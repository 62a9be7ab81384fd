"""A fault that may pass is told from a cache that is broken or is not there."""

from __future__ import annotations

import errno

import pytest

from pybuild.model.descriptor import OCI_INDEX, Descriptor
from pybuild.model.digest import Digest
from pybuild.model.errors import EnvironmentFault, PybuildError, UserError
from pybuild.net.http1.faults import HttpFault
from pybuild.registry.client.faults import ContentFault
from pybuild.remotecache.place import digest_of, is_passing
from pybuild.remotecache.writer import export_error


@pytest.mark.parametrize(
    ("status", "passes"),
    [(0, True), (200, True), (399, True), (400, False), (401, False), (404, False)]
    + [(428, False), (429, True), (430, False), (499, False), (500, True), (503, True)],
)
def test_what_a_server_refuses_stays_so_and_what_it_cannot_do_passes(
    status: int, passes: bool
) -> None:
    assert is_passing(HttpFault("x", status=status)) is passes


def test_content_that_contradicts_its_digest_does_not_pass() -> None:
    assert not is_passing(ContentFault("x", status=500))


@pytest.mark.parametrize(
    ("number", "passes"),
    [(errno.ENOENT, False), (errno.ENOTDIR, False), (errno.EISDIR, False), (errno.ELOOP, False)]
    + [(errno.EINVAL, False), (errno.EMFILE, True), (errno.EIO, True), (errno.EACCES, True)],
)
def test_a_file_that_is_none_does_not_pass_and_one_that_cannot_be_read_does(
    number: int, passes: bool
) -> None:
    error = UserError("x")
    error.__cause__ = OSError(number, "x")
    assert is_passing(error) is passes


def test_an_error_of_no_known_cause_does_not_pass() -> None:
    assert not is_passing(UserError("x"))
    error = EnvironmentFault("x")
    error.__cause__ = ValueError("y")
    assert not is_passing(error)


def test_nothing_has_no_digest() -> None:
    digest = Digest.of(b"x")
    assert digest_of(None) is None
    assert digest_of(Descriptor(OCI_INDEX, digest, 1)) == digest


def test_a_directory_that_cannot_be_written_is_named_with_the_reason() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/c/x")
    found = export_error(ExceptionGroup("several", [full]))
    assert isinstance(found, EnvironmentFault)
    assert found.message == "cannot write the cache: /c/x: no space left on device"
    found = export_error(OSError(errno.EIO, "Input/output error"))
    assert isinstance(found, PybuildError)
    assert found.message == "cannot write the cache: input/output error"


@pytest.mark.parametrize("error", [UserError("x"), ValueError("x"), OSError("no number")])
def test_other_errors_of_an_export_stay_as_they_are(error: Exception) -> None:
    assert export_error(error) is error
