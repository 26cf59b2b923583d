"""How good the scores are: discrimination, calibration, subgroups, against labels that somebody else gave.

Needs the extra `evaluate` (scikit-learn, matplotlib); both are imported inside functions.
"""
