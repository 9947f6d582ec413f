"""Quantises a net to INT8 by `onnxruntime.quantization`, with scales from the range of each activation over random inputs of its own.

Weights are int8, symmetric, with a scale per output channel, so that zeros stay zeros. Activations are uint8, but for `signed`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .inputs import inputs_for

if TYPE_CHECKING:
    import onnx

BATCHES, BATCH = 2, 4
"""Batches of other seeds by which scales are chosen, and their size where it is open."""


def qdq(model: onnx.ModelProto, *, keep_relu: bool = False) -> onnx.ModelProto:
    """Return a model with QuantizeLinear and DequantizeLinear around its layers, Relu included only with `keep_relu`.

    ValueError if no layer has a weight that can be quantised.
    """
    return _static(model, "QDQ", {"QDQKeepRemovableActivations": True} if keep_relu else {})


def qoperator(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of QLinearConv, QLinearMatMul and the like. ValueError as of `qdq`."""
    return _static(model, "QOperator", {})


def signed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model of `qdq` with int8 activations, which `onnxruntime.quantization` makes unless told otherwise.

    ValueError as of `qdq`.
    """
    return _static(model, "QDQ", {}, activations="QInt8")


def dynamic(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model whose activations are quantised in every run: ConvInteger, MatMulInteger, DynamicQuantizeLSTM.

    ValueError as of `qdq`.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    return _written(model, lambda source, target: quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8))


def _static(model: onnx.ModelProto, kind: str, extra: dict[str, Any], activations: str = "QUInt8") -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # its module has no types
        """Random inputs, one batch after the other."""

        def __init__(self) -> None:
            self.feeds = iter([inputs_for(model, batch=BATCH, seed=seed) for seed in range(BATCHES)])

        def get_next(self) -> Any:
            """Return the next inputs by name, None after the last."""
            return next(self.feeds, None)

    has_images = any(node.op_type == "Conv" for node in model.graph.node)

    def write(source: Path, target: Path) -> None:
        quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat[kind],
            op_types_to_quantize=None if has_images else ["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType[activations],
            weight_type=QuantType.QInt8,
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True, **extra},
        )

    return _written(model, write)


def _written(model: onnx.ModelProto, write: Callable[[Path, Path], None]) -> onnx.ModelProto:
    """Return what `write` makes of the model in a file, BatchNormalizations folded before."""
    import onnx

    with TemporaryDirectory() as folder, _quiet():
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        _write_folded(model, source)
        write(source, target)
        made = onnx.load(target)
    if not any(tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1 for tensor in made.graph.initializer):
        raise ValueError("no layer of it has a weight that this format quantises; of recurrent layers, only int8-dynamic does so for LSTM")
    return made


def _write_folded(model: onnx.ModelProto, target: Path) -> None:
    """Write the model with BatchNormalizations in the convolutions before them, as ONNX Runtime's basic optimisations do it."""
    import onnx
    import onnxruntime

    if not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        onnx.save(model, target)
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    kept = ["MatMulAddFusion"]  # it makes Reshape, Gemm, Reshape of a MatMul of sequences
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"], disabled_optimizers=kept)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warnings of the quantiser, which ask for preparations that are done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
