"""Person detectors that somebody else exported as ONNX, one file a family of output forms."""
