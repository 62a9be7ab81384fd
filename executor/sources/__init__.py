"""Sources that come from elsewhere: files by http(s), trees of git repositories, ssh agents."""
