"""Ways to a server: each sends requests to one address and hands every caller its own answer."""
