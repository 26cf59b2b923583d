"""What a benchmark leaves behind: its figures with the machine, the versions and the command that made them.

One record is one run; it is written as JSON, CSV, Markdown and plots, and compared with another.
"""
