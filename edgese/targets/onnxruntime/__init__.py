"""ONNX Runtime: everything that is known of it."""
