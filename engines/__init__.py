"""TensorRT plans: built where the GPU is, kept beside the immutable release, found again when it is served."""
