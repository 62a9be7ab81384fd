"""The client's end of a session: what a build server calls back."""
