"""From a worklist to results: cut the box of voxels around each nodule, stream it to the server, write what comes back.

Never imports torch or `export`.
"""
