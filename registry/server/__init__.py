"""The other side of the distribution protocol: `pybuild registry serve`."""
