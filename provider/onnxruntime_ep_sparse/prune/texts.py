"""Texts as a model's inputs, by the tokenizers library. Texts of equal lengths go together, so that none is padded."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import shown
from ..models.inputs import NUMPY_NAMES, Input, shape_words

LONGEST = 512
"""Tokens of a text, where neither the tokenizer nor the model says how many."""
FIELDS: dict[str, Callable[[Any], Sequence[int]]] = {
    "input_ids": lambda text: text.ids,
    "attention_mask": lambda text: text.attention_mask,
    "token_type_ids": lambda text: text.type_ids,
    "position_ids": lambda text: range(len(text.ids)),
}
"""The names of the inputs of a model of text, and the attributes of an encoded text with their values."""


def encoded(texts: Sequence[str], tokenizer: Path, inputs: Sequence[Input]) -> Iterator[dict[str, NDArray]]:
    """Yield arrays (texts, tokens) of all texts of one length, the shortest first.

    ValueError if the tokenizer cannot be read, or if the inputs are not those of a model of text; ImportError without tokenizers.
    """
    for i in inputs:
        if i.name not in FIELDS or len(i.shape) != 2:
            model = f"the model has {i.name} {shape_words(i.shape)}"
            raise ValueError(f"texts fill inputs {', '.join(FIELDS)} (texts x tokens), and {model}: give an npz file")
    length = next((i.shape[1] for i in inputs if isinstance(i.shape[1], int)), None)
    encode = _tokenizer(tokenizer, length)
    by_length: dict[int, list[Any]] = {}
    for text in encode(list(texts)):
        by_length.setdefault(len(text.ids), []).append(text)
    by_length.pop(0, None)
    for _, same in sorted(by_length.items()):
        yield {i.name: np.array([FIELDS[i.name](text) for text in same], _dtype(i)) for i in inputs}


def _dtype(text: Input) -> np.dtype:
    name = text.type.removeprefix("tensor(").removesuffix(")")
    return np.dtype(NUMPY_NAMES.get(name, name))


def _tokenizer(path: Path, length: int | None) -> Callable[[list[str]], list[Any]]:
    """Return the function that encodes texts: without padding, unless the model fixes their length."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise ImportError("texts need tokenizers: pip install tokenizers") from None
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {shown(path)}: {error.strerror}") from None
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"{shown(path)} is not the file of a tokenizer: {error}") from None
    truncation, padding = tokenizer.truncation or {}, tokenizer.padding or {}
    tokenizer.no_padding()
    if length is None:
        tokenizer.enable_truncation(truncation.get("max_length", LONGEST))
    else:
        warnings.warn(f"the model fixes texts to {length} tokens: shorter ones are padded, and padding enters the statistics", stacklevel=2)
        tokenizer.enable_truncation(length)
        kept = {key: padding[key] for key in ("pad_id", "pad_type_id", "pad_token") if key in padding}
        tokenizer.enable_padding(length=length, **kept)
    return tokenizer.encode_batch
