"""Networks of containers: bridges, addresses, published ports, names, and what the kernel holds of them.

Files are the truth here too: `networks` is for commands, `attaching` and what it uses for the helper of
a container, which brings the container's own network namespace to its networks and cleans up behind it.
"""
