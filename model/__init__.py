"""The nouns that all rooms share: digests, references, platforms, ops, vertices, events, errors.

No I/O, no clock, no environment, no randomness, no event loop. This file imports nothing: name the
module you need (``from pybuild.model.digest import Digest``), so that the fully cached path, which
needs hardly any of them, pays for none.
"""
