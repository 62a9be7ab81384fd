"""Docker's REST API on the daemon: routes understood purely, one handler for each, answers in Docker's words."""
