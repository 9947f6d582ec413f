"""Writes two nets for frames of any size, with random weights, of which 90 % are zero: MobileNetV1's features, and a U-Net.

    python write_models.py [--zeros 0.9] [FOLDER]

They show speed and memory; replace them by your own pruned models.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx

from onnxruntime_ep_sparse.models import mobilenet_v1, unet


def main() -> None:
    """Write `mobilenet_v1_features.onnx` and `unet.onnx`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path())
    parser.add_argument("--zeros", type=float, default=0.9)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    onnx.save(mobilenet_v1(arguments.zeros, classes=0), arguments.folder / "mobilenet_v1_features.onnx")
    onnx.save(unet(arguments.zeros), arguments.folder / "unet.onnx")


if __name__ == "__main__":
    main()
