"""Trained networks as files for other programs: safetensors, .pth, ONNX, OpenVINO."""
