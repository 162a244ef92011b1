"""The contract between export, which writes bundles, and the service, which reads them.

A bundle is one immutable directory `models/<name>/<version>/`. This package knows its files and its text, and
imports neither torch, onnx, onnxruntime nor grpc.
"""
