"""The subcommands, a file each: what is typed, which room does it, what is printed.

Heavy imports stand inside the functions, so that `--help` is quick and a missing extra gets a sentence.
"""
