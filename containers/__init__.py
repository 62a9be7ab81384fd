"""Runs what was built: containers, each under a monitor of its own, with no daemon.

Files are the truth: a command and a daemon look at the same directory and take the same locks. `order`,
`state`, `spawner`, `monitor` and `log` are the lean half, which runs in processes that outlive us.
"""
