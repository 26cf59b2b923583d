"""From a worklist to results: read only the voxels a nodule needs, stream them to the server, write what comes back.

Never imports torch or `export`.
"""
