"""Image encoder out: the towers of every fold as one ONNX graph, its precisions, and the engines built from it."""
