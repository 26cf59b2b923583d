"""Load on a server: arrivals in a closed or in an open loop, what came of each, and what server and client used up.

A latency is counted from the moment at which a nodule was to be sent, so that a server that stalls cannot hide it.
"""
