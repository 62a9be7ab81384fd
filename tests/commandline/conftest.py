"""The whole program, for the tests of its tables."""

from tests.e2e.conftest import pybuild

__all__ = ["pybuild"]
