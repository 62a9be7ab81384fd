"""Directories of a store that outlive the containers which use them: volumes, and what containers mount.

They know no containers: who uses a volume is looked up by a function that the caller has.
"""
