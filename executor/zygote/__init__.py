"""The code inside the zygote and its children: the sandbox and the workers' ground floor.

Lean on purpose: a module here imports C modules and its neighbours only, because the zygote is
started by ``python -I -S`` and forked once per step, and both cost what was imported.
"""
