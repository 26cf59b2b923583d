"""nodule_preprocess: the native box of each request -> nine views, or a sentence that says why not."""

import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, str(Path(__file__).parent))  # preprocessing/ lies beside this file in every release

from one_thread import hold_to_one_thread

from preprocessing import BadRequest, views_of_request

_GEOMETRY = ("BOX_START", "VOLUME_SHAPE", "VOLUME_AFFINE", "NODULE_CENTER")


class TritonPythonModel:
    """Answers each request on its own: one that is refused harms no other of its batch."""

    def initialize(self, args):
        """One thread a model instance, whatever the environment says."""
        told = hold_to_one_thread()
        pb_utils.Logger.log_info(f"{args['model_name']}: one thread ({', '.join(told) or 'no BLAS library found'})")

    def execute(self, requests):
        """One response a request, in order."""
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        try:
            views = _views(request)
        except BadRequest as refusal:
            error = pb_utils.TritonError(str(refusal), pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse(output_tensors=[], error=error)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor("VIEWS", views)])


def _views(request):
    """Views of every nodule of a request, float32 [n, 9, 50, 50]; its voxels are read where Triton put them."""
    voxels = pb_utils.get_input_tensor_by_name(request, "VOXELS").as_numpy()
    geometry = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in _GEOMETRY]
    views = np.empty((len(voxels), 9, 50, 50), np.float32)
    for slot, (box, *where) in enumerate(zip(voxels, *geometry, strict=True)):
        try:
            views[slot] = views_of_request(box, *where)
        except BadRequest as refusal:
            if len(voxels) == 1:
                raise
            # One request is one answer: it says which of its nodules is at fault.
            place = f"Nodule {slot + 1} of the {len(voxels)} in this request: "
            raise BadRequest(refusal.code, place + refusal.what) from None
    return views
