"""Results where the programme wants them: tables, DICOM SR, reports.

What a room needs to hand on a run's outcomes; nothing here scores or reads voxels.
"""
