"""Bytes over connections; knows no registry and no build."""
