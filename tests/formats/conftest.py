"""What the tests of compressed models share."""

import onnx
import pytest

from onnxruntime_ep_sparse.formats.compressed_model import pack, unpack
from support.making import bits_of


@pytest.fixture
def there_and_back(tmp_path):
    """Pack and unpack a model or a file; it must come back. Returns the packed model and what became of the weights."""

    def run(model, *, external=False, **arguments):
        source = tmp_path / "in" / "model.onnx"
        source.parent.mkdir(exist_ok=True)
        how = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if external else {}
        onnx.save(model, source, **how)
        before = {path: path.read_bytes() for path in source.parent.iterdir()}
        packed, back = tmp_path / "packed.onnx", tmp_path / "back.onnx"
        weights = pack(source, packed, **arguments)
        unpack(packed, back)
        assert bits_of(back) == bits_of(source)
        assert {path: path.read_bytes() for path in source.parent.iterdir()} == before
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {"in", "packed.onnx", "back.onnx"} | ({"packed.onnx.data", "back.onnx.data"} if external else set())
        return onnx.load(packed), weights

    return run
