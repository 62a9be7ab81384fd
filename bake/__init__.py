"""Many images with one command: definitions of targets read, and their builds made as one."""
