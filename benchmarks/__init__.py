"""Speed as a ratio to a baseline measured in the same run, on the same machine, by code that anybody can run again.

`noduleserve bench preprocessing`, `bench encoder` and `bench serving`; never a timed test.
"""
