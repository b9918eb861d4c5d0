"""Models of scikit-learn, ONNX, TorchScript and transformers, loaded once; see README.md beside this file."""

from warmd.apps.predict.app import Predict

__all__ = ["Predict"]
