"""The report of a run: one HTML file that a person reads in the morning.

No external requests, printable, no patient data but the ids that the worklist gives.
"""
