"""Ways to have a nodule scored: this system, the bare encoder, and what somebody would build instead.

All of them answer the same cases with the same weights, and a row counts only if the scores are right.
"""
