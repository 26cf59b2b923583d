"""Parity: what a release computes, compared link by link with the checkpoint that it was made of."""
