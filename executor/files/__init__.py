"""File actions and content digests: what workers do inside trees that are not to be trusted.

Lean on purpose: these modules are imported by forked children of the zygote. No dataclasses, no
asyncio; paths are `str` with surrogates for bytes that are not UTF-8, as `os` gives them.
"""
