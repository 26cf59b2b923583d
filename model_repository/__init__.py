"""The Triton models as templates: what an export fills in, stamps and copies into a release.

A template's $names are replaced at export; `nodule_preprocess/1` gets a copy of `preprocessing/` beside its model.py.
"""
