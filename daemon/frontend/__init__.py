"""A client's request to a definition: attributes, Dockerfile, LLB, subrequests."""
