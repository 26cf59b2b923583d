"""What the model will see of a nodule, shown to a person: its nine views, and where they lie in the whole volume.

Nothing is shown but voxels, geometry and the series UID: no name, date or number of a patient.
"""
