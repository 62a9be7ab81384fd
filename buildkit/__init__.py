"""BuildKit's languages to and from our nouns: messages, LLB, the tree protocol, policies."""
