"""The whole program, for the tests of its front door."""

from tests.e2e.conftest import pybuild

__all__ = ["pybuild"]
