"""Turn Dockerfile text into a definition and an image config, with warnings.

No disk, network, clock or event loop: what is needed from outside is asked for and handed in.
"""
