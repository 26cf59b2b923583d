"""CT in: a series on disk, in whatever format, becomes a geometry and boxes of Hounsfield units.

What cannot be read right is refused with a code; what is doubtful is read with a warning.
"""
