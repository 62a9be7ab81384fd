"""The proxy that steps go through where a build has one: what they ask for is judged and recorded."""
