"""Files that commands write: none that their inputs refer to, whatever the command, the kind of file and the way to it; links; names."""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse.cli import COMMANDS
from onnxruntime_ep_sparse.formats.onnx_file import load, referenced_files
from onnxruntime_ep_sparse.formats.schema import DOMAIN

PRUNE = (
    "prune",
    "--data",
    "{inputs}",
    "--sparsity",
    "0.5",
    "--only",
    "product",
    "--holdout",
    "0",
    "--method",
    "magnitude",
    "--no-timing",
    "{model}",
)
WRITING = {
    "analyze --json": ("analyze", "{model}", "--json", "{target}"),
    "bench --json": ("bench", "{model}", "--inputs", "{inputs}", "--json", "{target}"),
    "compare --json": ("compare", "{model}", "--inputs", "{inputs}", "--json", "{target}"),
    "report -o": ("report", "{model}", "--inputs", "{inputs}", "-o", "{target}"),
    "report --json": ("report", "{model}", "--inputs", "{inputs}", "-o", "{other}", "--json", "{target}"),
    "trace -o": ("trace", "{model}", "--inputs", "{inputs}", "--option", "policy=always", "-o", "{target}"),
    "annotate OUT": ("annotate", "{model}", "{target}"),
    "annotate --json": ("annotate", "{model}", "{other}", "--json", "{target}"),
    "prune OUT": (*PRUNE, "{target}"),
    "prune --masks": (*PRUNE, "{other}", "--masks", "{target}"),
    "prune --json": (*PRUNE, "{other}", "--json", "{target}"),
    "pack OUT": ("pack", "{model}", "{target}"),
    "pack --json": ("pack", "{model}", "{other}", "--json", "{target}"),
    "unpack OUT": ("unpack", "{model}", "{target}"),
    "unpack --json": ("unpack", "{model}", "{other}", "--json", "{target}"),
    "compile OUT": ("compile", "{model}", "{target}"),
    "compile --beside OUT": ("compile", "{model}", "{target}", "--beside"),
    "compile --json": ("compile", "{model}", "{other}", "--json", "{target}"),
}
"""Every place of a command line that names a file to write, if the command has inputs."""
WITHOUT_INPUTS = {"check", "demo"}
KINDS = ("model", "external data", "compiled region", "inputs")
WAYS = ("path", "relative path", "way round", "link", "hard link", "link of a folder")


@pytest.fixture(scope="module")
def inputs_of_commands(tmp_path_factory):
    """Make folders with a model, what it refers to, and a file of inputs: one for each kind of file."""
    return tmp_path_factory.mktemp("inputs")


@pytest.fixture
def given(inputs_of_commands, tmp_path, chain, cli):
    """Make a folder with model.onnx, which refers to a file of this kind, and inputs.npz; return the folder and that file."""

    def make(kind):
        made = inputs_of_commands / kind
        if not made.exists():
            (made / "below").mkdir(parents=True)
            model = chain(0.95)
            np.savez(made / "inputs.npz", x=np.ones((1, 64, 28, 28), np.float32))
            if kind == "external data":
                onnx.save(model, made / "model.onnx", save_as_external_data=True, location="model.onnx.weights", size_threshold=0)
            else:
                onnx.save(model, made / "model.onnx")
            if kind == "compiled region":
                cli("compile", made / "model.onnx", made / "compiled.onnx", "--beside")
                compiled = onnx.load(made / "compiled.onnx")
                domains = [imported for imported in compiled.opset_import if imported.domain != DOMAIN]
                del compiled.opset_import[:]
                compiled.opset_import.extend(
                    domains
                )  # ONNX Runtime imports every domain that it knows, and pack takes that for its own work
                onnx.save(compiled, made / "model.onnx")
                (made / "compiled.onnx").unlink()
        folder = tmp_path / "folder"
        shutil.copytree(made, folder)
        files = [*referenced_files(folder / "model.onnx", load(folder / "model.onnx")), folder / "inputs.npz"]
        return folder, files[{"model": 0, "inputs": -1}.get(kind, 1)]

    return make


def content_of(folder):
    """Names, contents, permissions and links of all files in a folder and below it."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file()]
    return [(str(path), path.is_symlink() or (path.read_bytes(), path.stat().st_mode)) for path in files]


def another_way(file, way, monkeypatch):
    """Return another way to a file."""
    folder = file.parent
    if way == "relative path":
        monkeypatch.chdir(folder / "below")
        return f"../{file.name}"
    if way == "way round":
        return folder / ".." / folder.name / "below" / ".." / file.name
    if way == "link":
        (folder / "below" / "link.onnx").symlink_to(file)
        return folder / "below" / "link.onnx"
    if way == "hard link":
        (folder / "hard.onnx").hardlink_to(file)
        return folder / "hard.onnx"
    if way == "link of a folder":
        (folder / "below" / "up").symlink_to(folder)
        return folder / "below" / "up" / file.name
    return file


def outputs_of(path):
    """Run a model with ones on the sparse provider."""
    session = onnxruntime.InferenceSession(path, sparse.session_options(), enable_fallback=0)
    return session.run(None, {"x": np.ones((1, 64, 28, 28), np.float32)})


def test_every_command_is_known():
    """A new one with inputs belongs into WRITING."""
    assert {arguments[0] for arguments in WRITING.values()} | WITHOUT_INPUTS == {command.__name__ for command in COMMANDS}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("place", "kind"), [(p, k) for p in WRITING for k in KINDS if k != "inputs" or "{inputs}" in WRITING[p]])
def test_files_of_the_inputs_are_kept(given, cli, monkeypatch, *, place, kind, way):
    """Exit code 2, one line that says why, and every file is as it was."""
    arguments = WRITING[place]
    folder, file = given(kind)
    target = another_way(file, way, monkeypatch)
    before = content_of(folder)
    names = {"model": folder / "model.onnx", "inputs": folder / "inputs.npz", "other": folder / "other.onnx", "target": target}
    result = cli(*[argument.format(**names) for argument in arguments], expect=2)
    assert result.err.count("\n") == 1
    assert "choose another name" in result.err
    assert content_of(folder) == before


@pytest.mark.parametrize("place", [place for place in WRITING if not place.startswith(("bench", "report"))])  # they measure too long
def test_a_link_is_written_through(given, cli, tmp_path, place):
    """The link stays, the file that it leads to is new or replaced, and keeps its permissions."""
    folder, _ = given("model")
    (tmp_path / "elsewhere").mkdir()
    if place.startswith("unpack"):
        cli("pack", folder / "model.onnx", folder / "packed.onnx")
        (folder / "packed.onnx").replace(folder / "model.onnx")
    link, file = folder / "link.onnx", tmp_path / "elsewhere" / "real.onnx"
    link.symlink_to(file)
    names = {"model": folder / "model.onnx", "inputs": folder / "inputs.npz", "other": folder / "other.onnx", "target": link}
    arguments = [argument.format(**names) for argument in WRITING[place]]
    cli(*arguments)
    assert link.is_symlink()
    first = file.read_bytes()
    file.write_bytes(b"older")
    file.chmod(0o600)
    cli(*arguments)
    assert file.read_bytes() == first or place.endswith(("--json", "trace -o"))  # these have times
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {path.name.partition("_")[0] for path in file.parent.iterdir()} == {"real.onnx", *["real"] * ("--beside" in arguments)}
    if place.endswith("OUT"):
        assert outputs_of(file)


def test_external_data_beside_the_file_of_a_link(given, cli, tmp_path):
    """OUT.data is beside the file that OUT leads to, and has its name."""
    folder, _ = given("external data")
    (tmp_path / "elsewhere").mkdir()
    (folder / "link.onnx").symlink_to(tmp_path / "elsewhere" / "real.onnx")
    document = cli("pack", folder / "model.onnx", folder / "link.onnx", "--json", "-").document
    files = sorted((tmp_path / "elsewhere").iterdir())
    assert [path.name for path in files] == ["real.onnx", "real.onnx.data"]
    assert document["bytes_after"] == sum(path.stat().st_size for path in files)
    cli("compare", files[0], "--inputs", folder / "inputs.npz")


@pytest.mark.parametrize("place", ["OUT.data", "region"])
def test_documents_beside_the_result(given, cli, place):
    """The document is not written over a file of the result either."""
    folder, _ = given("external data" if place == "OUT.data" else "model")
    out = folder / "out.onnx"
    if place == "OUT.data":
        assert "a file of the command" in cli("pack", folder / "model.onnx", out, "--json", folder / "out.onnx.data", expect=2).err
        assert not out.exists()
        return
    cli("compile", folder / "model.onnx", out, "--beside")
    (region,) = folder.glob("out_*.bin")
    before = content_of(folder)
    assert "a file of its compiled regions" in cli("compile", folder / "model.onnx", out, "--beside", "--json", region, expect=2).err
    assert content_of(folder) == before


def test_compiling_again_keeps_the_files_of_the_older_model(given, cli, chain, saved):
    """Files beside a model have names by content: a copy of the older model, or one that is compiled at the same time, stays whole."""
    folder, _ = given("model")
    out, copy = folder / "out.onnx", folder / "copy.onnx"
    cli("compile", folder / "model.onnx", out, "--beside")
    shutil.copy(out, copy)
    other = chain(0.95)
    other.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(other.graph.initializer[0]), "w"))
    cli("compile", saved(other), out, "--beside")
    assert len(list(folder.glob("out_*.bin"))) == 2
    before = content_of(folder)
    cli("compile", saved(other), out, "--beside")
    assert content_of(folder) == before
    found = [outputs_of(path)[0] for path in (folder / "model.onnx", copy, out)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.01 * np.abs(found[0]).max()


# what a model refers to outside of its folder


@pytest.mark.parametrize("command", ["analyze", "compare", "pack", "unpack", "compile"])
@pytest.mark.parametrize("way", ["..", "absolute", "link", "link of a folder"])
def test_external_data_outside(given, cli, tmp_path, *, command, way):
    """No command reads them, like ONNX Runtime, and nothing is written."""
    folder, data = given("external data")
    (tmp_path / "elsewhere").mkdir()
    moved = data.rename(tmp_path / "elsewhere" / data.name)
    locations = {"..": f"../elsewhere/{data.name}", "absolute": str(moved), "link": data.name, "link of a folder": f"below/out/{data.name}"}
    if way == "link":
        data.symlink_to(moved)
    (folder / "below" / "out").symlink_to(moved.parent)
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = locations[way]
    path.write_bytes(model.SerializeToString())
    before = content_of(tmp_path)
    target = [folder / "out.onnx"] if command in ("pack", "unpack", "compile") else []
    assert cli(command, path, *target, expect=1 if command == "compile" else 2).err.count("\n") == 1
    assert content_of(tmp_path) == before


# names


LATIN = os.fsdecode(b"caf\xe9.onnx")


@pytest.mark.parametrize("command", ["analyze", "compare", "compile"])
def test_files_whose_names_are_not_utf8(given, cli, command):
    """ONNX Runtime's Python interface does not take them."""
    folder, _ = given("model")
    shutil.copy(folder / "model.onnx", folder / LATIN)
    target = [folder / "out.onnx"] if command == "compile" else []
    assert "is not UTF-8 text" in cli(command, folder / LATIN, *target, expect=2).err


def test_results_whose_names_are_not_utf8(given, cli):
    """`pack` can write them, unless the model has to refer to such a name; documents can have such names."""
    folder, _ = given("external data")
    assert "by names in UTF-8" in cli("pack", folder / "model.onnx", folder / LATIN, expect=2).err
    assert "is not UTF-8 text" in cli("compile", folder / "model.onnx", folder / LATIN, expect=2).err
    model = onnx.load(folder / "model.onnx")
    onnx.save(model, folder / "whole.onnx")
    cli("pack", folder / "whole.onnx", folder / LATIN, "--json", folder / f"{LATIN}.json")
    cli("unpack", folder / LATIN, folder / "back.onnx")
    assert json.loads((folder / f"{LATIN}.json").read_text())["target"] == str(folder / LATIN)


def renamed(model, name):
    """The bytes of a model in which every `name` is as long but in Latin-1."""
    return model.SerializeToString().replace(name.encode(), b"\xe9" * len(name))


@pytest.mark.parametrize("what", ["weight", "input", "node"])
@pytest.mark.parametrize("standard", [False, True])
def test_names_in_latin1(cli, chain, tmp_path, *, what, standard):
    """`pack` and `unpack` carry them; other commands do, or say in one line that ONNX Runtime's Python interface cannot."""
    model = chain(0.95, names=("convolution", "", ""))
    for holder in (model.graph.initializer, model.graph.input):
        holder[0].name = {"w": "weights of conv", "x": "input of conv"}[holder[0].name]
    model.graph.node[0].input[:] = ["input of conv", "weights of conv"]
    source = renamed(model, {"weight": "weights of conv", "input": "input of conv", "node": "convolution"}[what])
    path, packed, back = (tmp_path / name for name in ("in.onnx", "packed.onnx", "back.onnx"))
    path.write_bytes(source)
    document = cli("pack", path, packed, *["--standard"] * standard, "--json", "-").document
    assert ("\\xe9" * 15 if what == "weight" else "weights of conv") in [weight["name"] for weight in document["weights"]]
    assert "compressed" in cli("pack", path, packed, *["--standard"] * standard).out
    assert "restored" in cli("unpack", packed, back).out
    assert back.read_bytes() == source
    for command in ("analyze", "compare"):
        if what == "input":
            assert "is not UTF-8 text" in cli(command, path, expect=2).err
        else:
            assert cli(command, path).out


@pytest.mark.parametrize("length", [300, 100_000])
def test_long_paths(given, cli, length):
    """One line of limited length, whichever argument it is."""
    folder, _ = given("model")
    long = folder / ("n" * length)
    for arguments in (
        ("pack", folder / "model.onnx", long),
        ("pack", long, folder / "out.onnx"),
        ("compile", folder / "model.onnx", f"{long}.onnx"),
        ("compile", long, folder / "out.onnx"),
        ("analyze", long),
        ("analyze", folder / "model.onnx", "--json", long),
        ("compare", folder / "model.onnx", "--inputs", long),
        ("compare", folder / "model.onnx", "--shape", f"{long}=1"),
        ("compare", folder / "model.onnx", "--option", str(long)),
    ):
        result = cli(*arguments, expect=2)
        assert result.err.count("\n") == 1
        assert len(result.err) < 2200


@pytest.mark.parametrize("command", ["analyze", "pack", "unpack", "compile"])
def test_long_names_in_models(given, cli, command):
    """A model may say a million characters; a message does not."""
    folder, _ = given("external data")
    path = folder / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = "d" * 1_000_000
    path.write_bytes(model.SerializeToString())
    target = [folder / "out.onnx"] if command != "analyze" else []
    result = cli(command, path, *target, expect=1 if command == "compile" else 2)
    assert len(result.err) < 2200
    assert not (folder / "out.onnx").exists()


def test_source_that_cannot_be_read(given, cli, monkeypatch):
    """Exit code 2: the input is wrong, not the output."""
    folder, _ = given("model")
    read = type(folder).read_bytes

    def denied(path):
        if path.name == "model.onnx":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(type(folder), "read_bytes", denied)
    for command in ("pack", "unpack", "compile"):
        assert "cannot read" in cli(command, folder / "model.onnx", folder / "out.onnx", expect=2).err


# several commands at once, and commands that are killed


def test_four_commands_at_once(given, tmp_path):
    """To one target: it is whole at any time and at the end, and nothing else is left."""
    folder, _ = given("model")
    commands = [
        ("pack", folder / "model.onnx", folder / "out.onnx"),
        ("compile", folder / "model.onnx", folder / "out.onnx", "--beside"),
    ] * 2
    started = [
        subprocess.Popen([sys.executable, "-m", "onnxruntime_ep_sparse", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for arguments in commands
    ]
    while any(process.poll() is None for process in started):
        if (folder / "out.onnx").exists():
            onnx.load(folder / "out.onnx")
    assert [process.returncode for process in started] == [0] * 4
    assert not list(folder.glob(".*"))
    assert {path.name.partition("_")[0] for path in folder.iterdir() if path.is_file()} == {"model.onnx", "inputs.npz", "out.onnx", "out"}


@pytest.mark.parametrize("command", ["pack", "compile"])
def test_killed_commands(given, cli, command):
    """At whatever moment: the old result or the new one, and the next run leaves nothing else."""
    folder, _ = given("model")
    out = folder / "out.onnx"
    cli(command, folder / "model.onnx", out)
    new = out.read_bytes()
    out.write_bytes(b"old")
    killer = """if True:
        import os, sys
        count, number = 0, int(sys.argv[1])
        EVENTS = {"open", "os.rename", "os.mkdir", "os.link", "os.chmod", "os.remove", "shutil.rmtree"}
        def audit(event, arguments):
            global count
            if event in EVENTS and "ort-sparse-" in str(arguments):
                count += 1
                if count == number:
                    os.kill(os.getpid(), 9)
        sys.addaudithook(audit)
        sys.argv = ["ort-sparse", *sys.argv[2:]]
        from onnxruntime_ep_sparse.__main__ import main
        main()
        """
    for number in range(1, 100):
        process = subprocess.run(
            [sys.executable, "-c", killer, str(number), command, str(folder / "model.onnx"), str(out)], capture_output=True, check=False
        )
        assert out.read_bytes() in (b"old", new)
        if process.returncode == 0:
            break
        assert process.returncode == -9
        out.write_bytes(b"old")
    assert number > 3
    assert not list(folder.glob(".*"))
