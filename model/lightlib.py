"""Parts of contextlib, functools and hashlib for commands that are over in milliseconds.

The standard library's modules load collections, types and abc with them, which takes longer than such a
command. Checkers see the standard library's own.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import contextmanager, suppress
    from functools import cached_property
else:

    class _Block:
        """A generator as a context: what stands before its only yield, and what stands behind."""

        __slots__ = ("_generator",)

        def __init__(self, generator):
            self._generator = generator

        def __enter__(self):
            return next(self._generator)

        def __exit__(self, kind, error, trace):
            if kind is None:
                try:
                    next(self._generator)
                except StopIteration:
                    return False
                raise RuntimeError("generator didn't stop")
            error = kind() if error is None else error
            try:
                self._generator.throw(error)
            except BaseException as raised:
                if raised is error:
                    error.__traceback__ = trace
                    return False
                # One that ends a generator comes out of it as the cause of another.
                if isinstance(error, StopIteration) and raised.__cause__ is error:
                    error.__traceback__ = trace
                    return False
                if isinstance(raised, StopIteration):
                    return True
                raise
            raise RuntimeError("generator didn't stop after throw()")

    def contextmanager(function):
        """Make *function*, a generator with one yield, a maker of contexts."""

        def make(*args, **named):
            return _Block(function(*args, **named))

        make.__name__, make.__qualname__ = function.__name__, function.__qualname__
        make.__doc__, make.__module__ = function.__doc__, function.__module__
        make.__wrapped__ = function
        return make

    class suppress:
        """A block that these exceptions end, and no more than it."""

        def __init__(self, *kinds):
            self._kinds = kinds

        def __enter__(self):
            pass

        def __exit__(self, kind, error, trace):
            return kind is not None and issubclass(kind, self._kinds)

    class cached_property:
        """An attribute that is computed when it is first looked at."""

        def __init__(self, function):
            self._function = function
            self.__doc__ = function.__doc__

        def __set_name__(self, owner, name):
            self._name = name

        def __get__(self, instance, owner=None):
            if instance is None:
                return self
            value = instance.__dict__[self._name] = self._function(instance)
            return value


_LITTLE = 64 << 10


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of *data* in hexadecimal; OpenSSL, which is fast, takes longer to load than to read little."""
    if len(data) <= _LITTLE:
        for name in ("_sha256", "_sha2"):  # of Python 3.11, and of those after it
            with suppress(ImportError):
                return str(__import__(name).sha256(data).hexdigest())
    import hashlib

    return hashlib.sha256(data).hexdigest()


__all__ = ["cached_property", "contextmanager", "sha256_of", "suppress"]
