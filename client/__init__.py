"""The client's end of a session: the services that a build server calls."""
