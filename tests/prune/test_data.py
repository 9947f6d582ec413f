"""Readers of calibration data: every form gives feeds of the model's inputs, in parts that it takes, the same for the same seed."""

import textwrap
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxruntime_ep_sparse.models.inputs import Input
from onnxruntime_ep_sparse.prune.data import BATCH, READERS, Request, feeds_of
from support.making import examples

X = Input("x", "tensor(float)", ["batch", 3])
IDS = Input("ids", "tensor(int64)", ["batch"])


def read(data, *inputs, **options):
    """All feeds."""
    return list(feeds_of(str(data), Request(inputs or [X], **options)))


def rows(feeds, name="x"):
    """All samples of an input."""
    return np.concatenate([feed[name] for feed in feeds])


def numbered(count):
    """Samples that tell their number."""
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], 3, axis=1)


def in_any_order(samples):
    """Their numbers, sorted."""
    return sorted(samples[:, 0].astype(int).tolist())


@pytest.fixture
def arrays(tmp_path):
    """A file of 100 samples."""
    np.savez(tmp_path / "data.npz", x=numbered(100))
    return tmp_path / "data.npz"


def test_a_file_of_arrays(arrays):
    """Each sample once, in another order than in the file, in batches."""
    feeds = read(arrays)
    assert [len(feed["x"]) for feed in feeds] == [BATCH, BATCH, BATCH, 100 - 3 * BATCH]
    samples = rows(feeds)
    assert in_any_order(samples) == list(range(100))
    assert not np.array_equal(samples, numbered(100))
    np.testing.assert_array_equal(samples, rows(read(arrays)))
    assert not np.array_equal(samples, rows(read(arrays, seed=1)))


@examples(30)
@given(st.integers(1, 120), st.integers(1, 150), st.sampled_from(["batch", None, 1, 7]), st.integers(0, 3))
def test_some_samples(tmp_path_factory, count, samples, first, seed):
    """As many as are asked for, all different, in the parts that the model fixes."""
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, x=numbered(count))
    part = first if isinstance(first, int) else 1
    used = min(count, samples) // part * part
    request = Request([X._replace(shape=[first, 3])], samples, seed)
    if used == 0:
        with pytest.raises(ValueError, match="fewer than the model takes at once"):
            list(feeds_of(str(path), request))
        return
    feeds = list(feeds_of(str(path), request))
    assert len(set(in_any_order(rows(feeds)))) == used == len(rows(feeds))
    if isinstance(first, int):
        assert {len(feed["x"]) for feed in feeds} == {first}


def test_inputs_stay_together(tmp_path):
    """Samples of several inputs keep their partners."""
    np.savez(tmp_path / "data.npz", x=numbered(50), ids=np.arange(50))
    for feed in read(tmp_path / "data.npz", X, IDS):
        np.testing.assert_array_equal(feed["x"][:, 0], feed["ids"])


def test_a_folder_of_arrays(tmp_path):
    """All files; of some samples, those of files at random."""
    for number in range(5):
        np.savez(tmp_path / f"{number}.npz", x=numbered(10) + 10 * number)
    (tmp_path / "readme.md").write_text("no data")
    assert in_any_order(rows(read(tmp_path))) == list(range(50))
    some = in_any_order(rows(read(tmp_path, samples=25)))
    assert len(set(some)) == 25
    assert some != in_any_order(rows(read(tmp_path, samples=25, seed=1)))


@pytest.mark.parametrize(
    ("given_arrays", "words"),
    [
        ({"y": numbered(4)}, "has y; the model's inputs are x"),
        ({"x": numbered(4), "y": numbered(4)}, "has x, y; the model's inputs are x"),
        ({}, "has nothing; the model's inputs are x"),
        ({"x": numbered(4).astype(np.float64)}, "x is float64, the model wants float32"),
        ({"x": np.zeros(4, np.float32)}, "x has rank 1, the model wants batchx3"),
        ({"x": np.zeros((4, 5), np.float32)}, "x is 4x5, the model wants batchx3"),
        ({"x": np.zeros((0, 3), np.float32)}, "there is no sample"),
        ({"x": np.array([[None]])}, "not an npz file of arrays"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_arrays_that_do_not_fit(tmp_path, given_arrays, words, folder):
    """One line that says what is there and what is wanted."""
    np.savez(tmp_path / "data.npz", **given_arrays)
    with pytest.raises(ValueError, match=words):
        read(tmp_path if folder else tmp_path / "data.npz")


def test_samples_that_differ_in_number(tmp_path):
    """The first axis is the samples of all inputs."""
    np.savez(tmp_path / "data.npz", x=numbered(4), ids=np.arange(5))
    with pytest.raises(ValueError, match="those of x and ids differ"):
        read(tmp_path / "data.npz", X, IDS)


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 damaged"])
def test_damaged_files(tmp_path, content):
    """The file is named."""
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"cannot read .*data\.npz"):
        read(tmp_path / "data.npz")


def test_random():
    """As many samples as are asked for, each another one, with a warning."""
    with pytest.warns(UserWarning, match="random data say nothing"):
        feeds = read("random", samples=70)
    samples = rows(feeds)
    assert samples.shape == (70, 3)
    assert len(np.unique(samples, axis=0)) == 70
    with pytest.warns(UserWarning, match="random data"):
        np.testing.assert_array_equal(samples, rows(read("random", samples=70)))
    with pytest.warns(UserWarning, match="random data"):
        assert {len(feed["x"]) for feed in read("random", X._replace(shape=[5, 3]), samples=12)} == {5}


# functions


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the working folder; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    names = []

    def write(code):
        names.append(f"calibration_{len(names)}_{tmp_path.name.replace('-', '_')}")
        (tmp_path / f"{names[-1]}.py").write_text(textwrap.dedent(code))
        return names[-1]

    return write


def test_a_function(module):
    """Of a module in the working folder: its feeds in its order, no more than are asked for."""
    name = module(
        """
        import numpy as np
        def feeds():
            for first in range(0, 1000, 10):
                yield {"x": np.arange(first, first + 10, dtype=np.float32)[:, None] + np.zeros(3, np.float32)}
        """
    )
    assert rows(read(f"{name}:feeds", samples=25))[:, 0].tolist() == list(range(25))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def other(): pass", "has no function feeds"),
        ("import nothing_of_that_name", "cannot import .*: ModuleNotFoundError"),
        ("syntax error", "cannot import .*: SyntaxError"),
        ("def feeds(): raise RuntimeError('no disk')", "RuntimeError: no disk"),
        ("def feeds(): yield 1", "AttributeError"),
        ("def feeds(): return 1", "TypeError"),
        ("def feeds(): return []", "there is no sample"),
        ("def feeds(): yield {'y': [1]}", "has y; the model's inputs are x"),
        ("def feeds(): yield {'x': [[1, 2, 3]]}", "x is int64, the model wants float32"),
    ],
)
def test_functions_that_fail(module, code, words):
    """One line with the kind of error."""
    name = module(code)
    with pytest.raises(ValueError, match=words):
        read(f"{name}:feeds")


# images


@pytest.fixture
def images(tmp_path):
    """A folder of ten images of one colour each, 40 x 20 pixels."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    (tmp_path / "images").mkdir()
    for number in range(10):
        image.new("RGB", (40, 20), (10 * number, 100, 200)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "notes.md").write_text("no image")
    return tmp_path / "images"


NCHW, NHWC = Input("x", "tensor(float)", ["batch", 3, "h", "w"]), Input("x", "tensor(float)", ["batch", "h", "w", 3])


def test_images(images):
    """Scaled to 0 ... 1, less the mean, by the deviation; channels where the model has them."""
    options = {"image": "size=8x16,mean=0.5,0.4,0.3,std=0.1,0.2,0.3"}
    samples = rows(read(images, NCHW, **options))
    assert samples.shape == (10, 3, 8, 16)
    assert samples.dtype == np.float32
    reds = np.sort(samples[:, 0, 0, 0])
    np.testing.assert_allclose(reds, (np.arange(10) * 10 / 255 - 0.5) / 0.1, rtol=1e-5)
    np.testing.assert_allclose(samples[:, 1], (100 / 255 - 0.4) / 0.2, rtol=1e-5)
    last = rows(read(images, NHWC, **options))
    np.testing.assert_array_equal(last.transpose(0, 3, 1, 2), samples)
    flipped = rows(read(images, NCHW, image="size=8,color=bgr"))
    np.testing.assert_allclose(flipped[:, 0], 200 / 255, rtol=1e-5)
    assert rows(read(images, NCHW._replace(shape=["n", 1, 12, 10]))).shape == (10, 1, 12, 10)
    pixels = rows(read(images, NCHW._replace(type="tensor(uint8)"), image="size=4"))
    assert pixels.dtype == np.uint8
    assert set(pixels[:, 2].ravel()) == {200}
    assert len(rows(read(images, NCHW, image="size=8", samples=3))) == 3


def test_crop_and_stretch(tmp_path):
    """The centre of an image, or all of it."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    image.fromarray(pixels).save(tmp_path / "bar.png")
    assert rows(read(tmp_path, NCHW, image="size=20")).min() == 1
    stretched = rows(read(tmp_path, NCHW, image="size=20,fit=stretch"))
    assert stretched[0, 0, 0, 0] == stretched[0, 0, 0, -1] == 0
    assert stretched[0, 0, 0, 10] == 1


@pytest.mark.parametrize(
    ("image", "shape", "words"),
    [
        (None, ["n", 3, "h", "w"], "leaves the size of x open"),
        ("size=9", ["n", 3, 8, 8], "x is 10x3x9x9, the model wants nx3x8x8"),
        ("size=0", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8x8x8", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,8", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,size=8", ["n", 3, "h", "w"], "expected size=224"),
        ("224", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,fit=pad", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,crop=1", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,mean=a", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,std=0", ["n", 3, "h", "w"], "expected size=224"),
        ("size=8,mean=1,2", ["n", 3, "h", "w"], "one number, or one for each of 3 channels"),
        ("size=8,mean=nan", ["n", 3, "h", "w"], "one number, or one for each of 3 channels"),
        ("size=8", ["n", 5, "h", "w"], "images have 1 or 3 channels"),
        ("size=8", ["n", 3], "one input of rank 4"),
    ],
)
def test_images_that_do_not_fit(images, image, shape, words):
    """The option, or the model, is named."""
    with pytest.raises(ValueError, match=words):
        read(images, X._replace(shape=shape), image=image)


def test_images_for_other_types(images):
    """Pixels as they are for uint8, else floats."""
    with pytest.raises(ValueError, match="x takes uint8: pixels, without mean and std"):
        read(images, NCHW._replace(type="tensor(uint8)"), image="size=8,mean=0.5")
    with pytest.raises(ValueError, match="x takes int64: give an npz file"):
        read(images, NCHW._replace(type="tensor(int64)"), image="size=8")


def test_files_that_are_no_images(images):
    """A damaged one is named."""
    (images / "damaged.png").write_bytes((images / "1.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"cannot read .*damaged\.png as an image"):
        read(images, NCHW, image="size=8")


# texts


IDS_AND_MASK = [Input("input_ids", "tensor(int64)", ["n", "t"]), Input("attention_mask", "tensor(int64)", ["n", "t"])]


@pytest.fixture
def texts(tmp_path):
    """A file of 60 texts of one to six words, and a tokenizer that pads to 128 tokens and cuts at 5."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs tokenizers")
    words = {"[PAD]": 0, "[UNK]": 1, **{word: number for number, word in enumerate("abcdef", 2)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(5)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    lines = [" ".join("abcdef"[: 1 + number % 6]) for number in range(60)]
    (tmp_path / "texts.txt").write_text("\n\n".join(lines) + "\n")
    return {"data": tmp_path / "texts.txt", "tokenizer": str(tmp_path / "tokenizer.json")}


def test_texts_of_equal_lengths_together(texts):
    """So that none is padded; the shortest do not come first."""
    feeds = list(feeds_of(str(texts["data"]), Request(IDS_AND_MASK, tokenizer=texts["tokenizer"])))
    assert all(feed["attention_mask"].all() for feed in feeds)
    assert all(feed["input_ids"].shape == feed["attention_mask"].shape for feed in feeds)
    assert all(feed["input_ids"].dtype == np.int64 for feed in feeds)
    lengths = [feed["input_ids"].shape[1] for feed in feeds]
    assert set(lengths) == {1, 2, 3, 4, 5}
    assert lengths != sorted(lengths)
    assert sum(len(feed["input_ids"]) for feed in feeds) == 60
    for feed in feeds:
        np.testing.assert_array_equal(feed["input_ids"], np.tile(np.arange(2, 2 + feed["input_ids"].shape[1]), (len(feed["input_ids"]), 1)))


def test_other_inputs_of_texts(texts):
    """Types of tokens and positions, as int32 where the model wants that."""
    inputs = [*IDS_AND_MASK, Input("token_type_ids", "tensor(int32)", ["n", "t"]), Input("position_ids", "tensor(int64)", ["n", "t"])]
    for feed in feeds_of(str(texts["data"]), Request(inputs, tokenizer=texts["tokenizer"])):
        assert feed["token_type_ids"].dtype == np.int32
        assert not feed["token_type_ids"].any()
        assert feed["position_ids"][0].tolist() == list(range(feed["input_ids"].shape[1]))


def test_a_model_that_fixes_the_length(texts):
    """Texts are padded, with a warning and a mask."""
    inputs = [i._replace(shape=["n", 4]) for i in IDS_AND_MASK]
    with pytest.warns(UserWarning, match="fixes texts to 4 tokens"):
        feeds = list(feeds_of(str(texts["data"]), Request(inputs, tokenizer=texts["tokenizer"])))
    assert {feed["input_ids"].shape[1] for feed in feeds} == {4}
    for feed in feeds:
        np.testing.assert_array_equal(feed["attention_mask"] == 0, feed["input_ids"] == 0)


def test_texts_that_cannot_be_used(texts, tmp_path):
    """No tokenizer, a file that is none, inputs of another kind of model, no text."""
    request = Request(IDS_AND_MASK, tokenizer=texts["tokenizer"])
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "other.json").write_text("{}")
    for data, given_request, words in (
        (texts["data"], Request(IDS_AND_MASK), "give the model's tokenizer too"),
        (texts["data"], Request(IDS_AND_MASK, tokenizer=str(tmp_path / "none.json")), "No such file"),
        (texts["data"], Request(IDS_AND_MASK, tokenizer=str(tmp_path / "other.json")), "not the file of a tokenizer"),
        (texts["data"], Request([X], tokenizer=texts["tokenizer"]), "texts fill inputs input_ids"),
        (tmp_path / "empty.txt", request, "there is no sample"),
        (tmp_path / "latin.txt", request, "not UTF-8 text"),
        (tmp_path / "none.txt", request, "No such file"),
    ):
        with pytest.raises(ValueError, match=words):
            list(feeds_of(str(data), given_request))


# the table


def test_data_of_no_form(tmp_path):
    """The message lists all forms."""
    for data in (tmp_path, tmp_path / "none", "some:thing else", "model.onnx"):
        with pytest.raises(ValueError, match="give random, ") as error:
            read(data)
        for reader in READERS:
            assert reader.form in str(error.value)


def test_options_of_other_readers(arrays):
    """What a reader does not use is not ignored."""
    for option in {reader.option for reader in READERS} - {None}:
        with pytest.raises(ValueError, match=f"--{option} is for .*, and the data are FILE.npz"):
            read(arrays, **{option: "size=8"})


# models whose first axis counts times

SEQUENCES = Request([Input("x", "tensor(float)", ["t", 1, 6]), Input("h", "tensor(float)", [1, 1, 4])], sequences=True)


def run_of(times, seed):
    rng = np.random.default_rng(seed)
    return {"x": rng.standard_normal((times, 1, 6)).astype(np.float32), "h": rng.standard_normal((1, 1, 4)).astype(np.float32)}


def test_sequences_in_files(tmp_path):
    """A file has one run of the model, of any length, or some of one length along one more axis."""
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", **run_of(5 + number, number))
    np.savez(tmp_path / "more.npz", **{key: np.stack([run_of(9, seed)[key] for seed in range(4)]) for key in ("x", "h")})
    found = [feed["x"].shape for feed in feeds_of(str(tmp_path), SEQUENCES)]
    assert sorted(found) == [(5, 1, 6), (6, 1, 6), (7, 1, 6), *[(9, 1, 6)] * 4]
    assert len(list(feeds_of(str(tmp_path), replace(SEQUENCES, samples=5)))) == 5
    (one,) = feeds_of(str(tmp_path / "1.npz"), SEQUENCES)
    np.testing.assert_array_equal(one["x"], run_of(6, 1)["x"])


def test_sequences_at_random_and_of_a_function(tmp_path, monkeypatch):
    """As many runs as are asked for."""
    with pytest.warns(UserWarning, match="random data"):
        assert [feed["x"].shape for feed in feeds_of("random", replace(SEQUENCES, samples=3))] == [(32, 1, 6)] * 3
    (tmp_path / "runs_of_a_test.py").write_text(
        "import numpy as np\ndef runs():\n    for t in (3, 4, 5):\n"
        "        yield {'x': np.ones((t, 1, 6), np.float32), 'h': np.ones((1, 1, 4), np.float32)}\n"
    )
    monkeypatch.chdir(tmp_path)
    found = [feed["x"].shape for feed in feeds_of("runs_of_a_test:runs", replace(SEQUENCES, samples=2))]
    assert found == [(3, 1, 6), (4, 1, 6)]


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"x": np.ones((2, 5, 1, 6), np.float32), "h": np.ones((3, 1, 1, 4), np.float32)}, "its lengths differ"),
        ({"x": np.ones((2, 5, 1, 7), np.float32), "h": np.ones((2, 1, 1, 4), np.float32)}, "x is 5x1x7, the model wants tx1x6"),
        ({"x": np.ones((5, 1, 6), np.float32), "h": np.ones((5, 1, 4), np.float32)}, "h is 5x1x4, the model wants 1x1x4"),
        ({"x": np.ones((5, 1, 6), np.float32)}, "has x; the model's inputs are x, h"),
    ],
)
def test_sequences_that_do_not_fit(tmp_path, arrays, match):
    """Lengths, shapes and names."""
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        list(feeds_of(str(tmp_path / "wrong.npz"), SEQUENCES))
