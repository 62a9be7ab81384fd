"""Networks of containers: bridges, addresses, published ports, names, and what the kernel holds of them.

Files are the truth here too: `networks` is for commands, `attaching` and what it uses for the monitors
of containers, which bring a container's own network namespace to its networks and clean up behind it.
"""
