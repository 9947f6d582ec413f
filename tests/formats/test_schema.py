"""The table of compressed operators: it follows ONNX's schemas, and no other place lists them."""

import re
from pathlib import Path

import onnx
import pytest

import onnxruntime_ep_sparse
from onnxruntime_ep_sparse.formats.schema import DOMAIN, HELD, OPERATORS, PRODUCTS, SINCE_VERSION, WEIGHT, WEIGHT_SHAPE

PACKAGE = Path(onnxruntime_ep_sparse.__file__).parent
KINDS = {"INT": int, "INTS": tuple, "FLOAT": float, "STRING": str}


@pytest.mark.parametrize("name", PRODUCTS)
def test_rows_follow_onnx(name):
    """The attributes are ONNX's and the shape of the weight; its two tensors take the place of ONNX's one input."""
    schema, row = onnx.defs.get_schema(name, SINCE_VERSION), OPERATORS[name]
    assert row.attributes == {
        **{attribute.name: KINDS[attribute.type.name] for attribute in schema.attributes.values()},
        WEIGHT_SHAPE: tuple,
    }
    assert row.inputs == schema.max_input + 1


def test_the_weight_itself():
    """It has no operator of ONNX: its two tensors, and its shape."""
    assert [name for name in OPERATORS if name not in PRODUCTS] == [WEIGHT]
    assert (OPERATORS[WEIGHT].inputs, OPERATORS[WEIGHT].attributes) == (2, {WEIGHT_SHAPE: tuple})
    with pytest.raises(onnx.defs.SchemaError):
        onnx.defs.get_schema(WEIGHT)


@pytest.mark.parametrize("name", [name for name in HELD if name != "QGemm"])
def test_held_weights_are_inputs_that_the_operator_must_have(name):
    """QGemm is an operator of com.microsoft, of which onnx has no schema."""
    for place in HELD[name]:
        assert onnx.defs.get_schema(name).inputs[place].option == onnx.defs.OpSchema.FormalParameterOption.Single


def test_operators_are_listed_once():
    """Domain, attribute and operators stand in the table only, and everything that handles them imports it."""
    sources = [PACKAGE / "passes" / "decompress.py", *(path for folder in ("formats", "ort") for path in (PACKAGE / folder).iterdir())]
    sources = [path for path in sources if path.suffix in (".py", ".pyx", ".pxd")]
    for words in ((f'"{DOMAIN}"',), (f'"{WEIGHT_SHAPE}"',), tuple(f'"{name}"' for name in OPERATORS)):
        found = [path.name for path in sources if all(re.search(re.escape(word), path.read_text()) for word in words)]
        assert found == ["schema.py"], words
