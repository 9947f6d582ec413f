"""Writes the documents that follow from tables in the code: `python docs/generate.py` with the package installed."""

from __future__ import annotations

import inspect
import json
import re
import runpy
import tomllib
from pathlib import Path

import interfaces
import messages

import onnxruntime_ep_sparse as sparse
from onnxruntime_ep_sparse import options, reasons
from onnxruntime_ep_sparse.cli import common
from onnxruntime_ep_sparse.formats import schema, weight_codec
from onnxruntime_ep_sparse.ops import table as ops
from onnxruntime_ep_sparse.ops.row import FUSED
from onnxruntime_ep_sparse.ort import log_level, registration
from onnxruntime_ep_sparse.partition import measured, verdict
from onnxruntime_ep_sparse.partition.nominal import COUNTS
from onnxruntime_ep_sparse.program import limits, serialize
from onnxruntime_ep_sparse_kernels.isa import ISAS

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
TABLES = runpy.run_path(str(HERE.parent / "tests" / "benchmarks" / "report.py"))
"""The module that renders tables of measurements, in benchmarks and here."""

OPTIONS = """\
# Options

<!-- Written by generate.py from options.py. -->

Provider options are strings. Pass them to ONNX Runtime, or to `session_options()`, which checks them at once:

```python
import onnxruntime
import onnxruntime_ep_sparse

onnxruntime_ep_sparse.register()
providers = [("SparseExecutionProvider", {{"policy": "always", "threads": "2"}}), "CPUExecutionProvider"]
session = onnxruntime.InferenceSession("model.onnx", providers=providers, enable_fallback=0)

chosen = onnxruntime_ep_sparse.session_options({{"policy": "always"}})
session = onnxruntime.InferenceSession("model.onnx", chosen)
```

{table}
Each option has an environment variable: {variables}.
Precedence: argument, environment variable, default.

An unknown option or an invalid value is an error, which lists the valid ones. If the option was given by `providers=`, ONNX Runtime prints
that error and continues with the CPU provider alone. `enable_fallback=0` prevents that.

Without `threads`, the provider takes the number that the session itself has: the configuration entry `session.intra_op_num_threads`,
`SessionOptions.intra_op_num_threads` or the variable `ORT_INTRA_OP_NUM_THREADS`, and without these one per physical core. It is never more
than the CPUs that the process may use: its affinity mask, and the CPU quota of its container (control groups of Linux, both versions). The
size of a pool that sessions share (`use_per_session_threads`) is not known, nor are settings of the session where the provider is loaded
without glibc: set `threads` there. A wrong number only costs speed; numbers above {workers:,} count as {workers:,}.

## Measured decisions

`policy=auto` goes by expected times. `policy=measure` runs the CPU provider and this one side by side while the session is created:

```python
options = {{"policy": "measure", "threads": "4", "measure_budget_ms": "20000", "cache_dir": "~/.cache/ort-sparse"}}
session = onnxruntime.InferenceSession("model.onnx", providers=[("SparseExecutionProvider", options), "CPUExecutionProvider"])
```

- **What is measured.** Every product with at least {zeros:.0%} zeros (or `min_sparsity`) is a candidate, together with what is worth having
  beside it. Each such region becomes a model of its own, which runs in a session of either provider in turn, with `threads` threads. It is
  taken if the median of the paired ratios is above 1. If a region is not faster, the smaller ones within it that `auto` takes have a turn;
  otherwise it stays with the CPU provider.
- **Open dimensions.** Where the batch or the number of rows is open, {counts} are measured, the larger ones if time is left. A
  region must be faster at each. Fix dimensions for certainty about yours: ONNX Runtime's `add_free_dimension_override_by_name` will do.
- **Time.** `measure_budget_ms` is divided equally among the regions, those with the largest weights first. Regions that are left when it
  is used up are decided as by `auto`, and their reasons say so. A region that is slow may exceed its share by a few runs.
- **Results.** The process remembers its measurements for further sessions of the same model. With `cache_dir`, other processes can use
  them. The folder then holds one small file for each region, beside the packed weights of those that are taken. It is named by a hash of
  CPU, instruction set, threads, budget, versions of both packages, and content of the region. Processes may share the folder. A damaged
  file is measured again and replaced. A
  [compiled model](compressed.md#compiled-models) keeps the regions that were taken, with their figures.
- **Reasons.** `explain()` gives the figures of each node. Python's logger `onnxruntime_ep_sparse` tells at level INFO which region is being
  measured; `ort-sparse` shows these lines.
- **Limits.** A region is measured alone: the gain or loss of its neighbours is not measured. Sessions of other optimisation levels
  than the default one are measured at the default one. Compressed weights are measured against dense ones. Regions with inputs that are not
  float32, or with more than 2 GB of constants, are decided as by `auto`. So is everything where the module `onnx` or `onnxruntime` is out
  of reach, as in a program in another language; a warning says so once. Measure on a machine that does nothing else.

## Dynamic options

You can send a session dynamic options at any time, from any thread: `session.set_ep_dynamic_options({{"cancel": "1"}})`.

{dynamic}
An unknown option or an invalid value is an error, which lists the valid ones, and then nothing of that call is done. Options whose names
begin with `{runtime}` are ONNX Runtime's own.

## Stopping runs

`session.set_ep_dynamic_options({{"cancel": "1"}})` stops all runs of the session that are in progress. Each ends with the step that it is
in; a recurrent step is left between two times. It raises `Fail`, whose one line contains "cancelled by the dynamic option 'cancel'", and
ONNX Runtime logs an error. Runs that begin after the call are not concerned, even while cancelled runs are still ending.

- **Between regions.** A run that computes nodes of the CPU provider goes on until it comes to a region of this one, and then ends. After
  the last region it finishes. So the option changes nothing in sessions of which this provider takes no node. Sessions without this
  provider accept any dynamic option, without effect.
- **One run.** `RunOptions.terminate = True` stops the runs that were given these options. ONNX Runtime looks at it between nodes, this
  provider also between the steps of a region, with the same message: "Exiting due to terminate flag being set to true." This needs glibc.
  Elsewhere the run ends after the region.
- **Parallel execution.** In sessions with `ExecutionMode.ORT_PARALLEL` a run ends if it is in a region at the moment of the call. Within
  regions `terminate` has no effect.
- **Compressed models without the provider.** Their custom operators are nodes of the CPU provider.

## Without the CPU provider

ONNX Runtime's configuration entry `session.disable_cpu_ep_fallback=1` makes sessions fail that would run a node on the CPU provider. It
changes nothing in what this provider takes: only `policy` and `min_sparsity` decide. If any node is left, session creation fails with ONNX
Runtime's message `This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been explicitly
disabled by the user`.

Combine the entry with `policy=always`, which takes all nodes that can run:

```python
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
providers = [("SparseExecutionProvider", {{"policy": "always"}})]
session = onnxruntime.InferenceSession("model.onnx", options, providers=providers, enable_fallback=0)
```

The CPU provider must not be among the providers: ONNX Runtime calls that a conflict. So the entry does not go together with
`session_options()`, which lists the CPU provider.
"""

MODELS = """\
# Supported models

<!-- Written by generate.py from the tables in ops/. -->

An ordinary ONNX file whose weights hold zeros, of float32, float16, bfloat16 or 8-bit integers: no conversion. `ort-sparse analyze`, or
`explain(session)` in Python, tells for every node whether it is taken, why, and which option would change that. [Reasons](reasons.md)
lists all answers.

## What is taken

The unit is a region: a connected piece of the graph around products with pruned weights.

1. A **product** is wanted when its share of zeros reaches its break-even. A cost model computes that from the shape of the layer;
   `min_sparsity` overrides it. A product too small to gain from any sparsity is not wanted. One below its break-even is still wanted if
   enough of its weight disappears with **dead channels**. These are outputs whose weights are all zero, and inputs that no weight reads.
2. The region grows over neighbours that can be run, pruned or not, as long as it can be contracted into one node without a cycle.
   **Activations** after a product, the addition of a residual, and constants that act as bias become part of the product.
3. Nodes at the border leave the region if handing their tensors over is expected to cost less than keeping them. The region is taken if it
   is expected to gain as a whole, or if `min_sparsity` says so.

`policy=always` takes all that can be run and `policy=never` nothing. `policy=measure` [measures](options.md#measured-decisions) instead of
estimating.

## Operators

| operators | role | limits |
| --- | --- | --- |
{operators}

- **Types.** All but those of roles integers and numbers take float32, float16 or bfloat16. Operators that only move elements, and
  MaxPool, take 8-bit integers too. Those that take parts, join or reshape, and `Where`, also take int64 and int32.
  [Quantised models](how-to/quantized.md) says how those of integers are read.
- **Shapes.** The rank is known, at most {rank} dimensions. Any dimension may vary from run to run. What depends on the shapes of the inputs
  alone, such as positions and causal masks, is computed once for each shape.
- **Windows.** The numbers of a window (kernel, strides, dilations, pads) are below 65,536, and it spans at most a million pixels.
- **Optimised files.** Files that ONNX Runtime saved at `ORT_ENABLE_EXTENDED` fit all CPUs. Those of `ORT_ENABLE_ALL` hold its blocked
  layout, and fit the kind of CPU that saved them: with AVX-512 its blocks have 16 channels, on other x86 CPUs 8. Where their channels tell
  that a file is from another kind of CPU, nothing of them is taken, and a warning says so: the CPU provider fails there or gives wrong
  results in silence. Files whose channels all fit both tell nothing (ResNet-50). They are read as the CPU provider reads them, with a
  warning.

## What is declined

- every other operator, and the operators above beyond their limits;
- other types: float64, 16-bit and 4-bit integers, float8;
- products whose weights are not constant in the file, or are graph inputs that a caller may override;
- the bodies of `If`, `Loop` and `Scan`;
- nodes that another provider has already taken.

Declined nodes run on ONNX Runtime's CPU provider, as without this package.

## Usual nets

| net | a region may hold | between regions |
| --- | --- | --- |
| ResNet, DenseNet, ShuffleNet, MobileNet, EfficientNet, NASNet, R3D | everything, the first convolution and the classifier included | |
| ConvNeXt | everything, `Transpose` and `LayerNormalization` between the products included | |
| U-Net, DeepLab | everything, skips and upsampling by `ConvTranspose`, or `Resize` with constant scales or sizes, included | |
| YOLOv5, YOLOv8, GhostNet | everything, parts of channels and the decoding of boxes included | |
| nets with GroupNormalization or InstanceNormalization, with Mish or PRelu | everything | |
| BERT, GPT-2, T5, Llama, Whisper, ViT, Swin, DETR | everything from the embeddings on, attention, ids, positions and masks included | |
| LSTM, GRU, RNN | everything, what is between layers and computed shapes included | |
| perceptron | everything | |

## Exported nets

    python tests/benchmarks/nets.py FOLDER --pairs 15 --json docs/data/nets.json

Nets as PyTorch's exporters write them, with random weights of which 90 % are zeros, on one thread. The error is the largest difference from
the CPU provider as a share of the largest output. A/A is the CPU provider measured against itself: rows that say so are not valid. Nets
with `-extended` are files that ONNX Runtime has saved at `ORT_ENABLE_EXTENDED`. `resnet50` and `mobilenet_v2` come from this package's
builders; `unet3d_16` has 16 channels and images of 32x64x64. `-ts` is TorchScript's exporter, `-dyn` dynamo; `open` nets have open sizes.
`iresnet18` is the net of ArcFace. Nets without a speed-up need other inputs than random ones.

The first table and the one for AVX2 were measured row by row, as operators came. The newest rows stand in the second table and in
[benchmarks](benchmarks.md#text-nets). Swin, SwinV2, ConvNeXtV2 and EdgeNeXt are one region since. In the rows of `whisper_dec` and
`llama_prefill` integers were still left to the CPU provider; `bigru-ts` has all 17 nodes now.

<!-- data/nets.json -->
<!-- end -->

Later exports, of torchvision, timm, transformers and diffusers:

<!-- data/nets-more.json -->
<!-- end -->

The nets of the first table with AVX2, in both providers:

<!-- data/nets-avx2.json -->
<!-- end -->
"""

REASONS = """\
# Reasons

<!-- Written by generate.py from reasons.py. -->

`ort-sparse analyze MODEL`, or `explain(session)` in Python, gives one of these reasons for every node. The code stays the same from
version to version. Names in braces stand for what is filled in. The option overrides the decision.

| code | reason | what you can do | option |
| --- | --- | --- | --- |
{reasons}
"""


ERRORS = """\
# Errors

<!-- Written by generate.py from the messages in the source, by the areas of messages.py. -->

All errors that this package raises, by what they are about. Names in braces and … stand for what is filled in. Errors of a session's
creation and of a run reach you through ONNX Runtime, which puts its own words around them. A command of `ort-sparse` prints the text as one
line on standard error, and ends with code 1 (it failed) or 2 (wrong use).

A node that is not taken is not an error: [reasons](../reasons.md). Messages of other programs, and what to do:
[troubleshooting](../how-to/troubleshooting.md).

{errors}
"""

ENVIRONMENT = """\
# Environment variables

<!-- Written by generate.py from options.py and the table in generate.py. -->

## Provider options

Each [option](../options.md) has a variable. Precedence: argument, variable, default. An empty variable counts as not set. An invalid value
is an error when a session is created.

| variable | option | valid |
| --- | --- | --- |
{options}

```sh
ORT_SPARSE_POLICY=always ort-sparse analyze model.onnx
```

## Other variables

| variable | read | meaning |
| --- | --- | --- |
{others}
"""

OTHER_VARIABLES = (
    (
        "ORT_INTRA_OP_NUM_THREADS",
        "session",
        "ONNX Runtime's number of threads, for sessions that are given none. The provider divides its work for it.",
    ),
    (
        "ORT_DISABLE_TELEMETRY",
        "`import onnxruntime`",
        "Read by ONNX Runtime. `1` prevents the thread that makes "
        "[forked processes hang](../how-to/containers.md#servers-that-fork-their-workers).",
    ),
    ("TMPDIR", "`analyze`, `bench`, `prune`, `demo`", "Folder for temporary files. `/tmp` without it."),
    ("HOME", "`cache_dir`", "The folder that `~` in the option `cache_dir` stands for."),
    (
        "ORT_SPARSE_LOG",
        "session",
        f"From which level on the provider [logs](../how-to/troubleshooting.md#messages-of-a-session): {', '.join(log_level.LEVELS)}. "
        "Without it, the level of ONNX Runtime's logger counts.",
    ),
    (
        "NO_COLOR, COLUMNS",
        "`ort-sparse`",
        "Read by rich: no colours; the width of tables. Without it, tables in files and pipes are 200 wide.",
    ),
    ("ORT_SPARSE_CFLAGS", "build", "More flags for the C compiler, such as `-g1` or those of a sanitizer."),
    ("ORT_SPARSE_CYTHON_DEBUG", "build", "`1` turns on Cython's bounds checks."),
    ("ORT_SPARSE_TEST_EXAMPLES", "tests", "How many times as many examples each property test tries."),
)
"""Variables that are not options: name, what reads them, meaning."""

FORMATS = """\
# File formats

<!-- Written by generate.py from the constants in the source. -->

| file | written by | read by | identified by | other versions |
| --- | --- | --- | --- | --- |
| compressed model, `.onnx` | `ort-sparse pack` | this package, with or without the provider \
| operators of the domain `{domain}`, version {operators}; each index begins with `{codec}`, layout {codec_version} \
| refused. Every later release reads version {operators}. |
| the same with `--standard` | `ort-sparse pack --standard` | any runtime | ONNX's `sparse_initializer` | |
| compiled model, `.onnx` | `ort-sparse compile`, `onnxruntime.ModelCompiler` | this package with the provider \
| nodes `EPContext`; each region begins with `{program}`, layout {program_version} \
| refused: compile the original model again |
| packed region beside a model, `NAME_REGION_HASH.bin` | `ort-sparse compile --beside` | the model that names it | as above | as above |
| `ort-sparse-KEY.region` in `cache_dir` | sessions | sessions \
| as above, and the key, which contains the version of the package | never found; packed again |
| `ort-sparse-KEY.verdict` in `cache_dir` | sessions with `policy=measure` | the same \
| `{verdict}`, layout {verdict_version} | measured again |
| masks, `.npz` | `ort-sparse prune --masks`, `Masks.save` | `Masks.load`, numpy | arrays `kept:NAME`, `values:NAME` and others | |
| JSON documents | `--json FILE` of every command | your programs | `"schema": {schema}` \
| a key that changes its meaning or disappears raises the number; new keys do not |

Keep the original model: all other files can be made from it again. A file appears under its name when it is complete. Files that
this package reads back carry a checksum.

## Bytes

- Compressed weights: [the operators](../compressed.md#the-operators) and [the index](../compressed.md#the-index).
- Compiled regions and cache entries: [a cache instead of compiled models](../compressed.md#a-cache-instead-of-compiled-models).

## Masks

{masks}
"""

SUPPORT = """\
# Support and versions

<!-- Written by generate.py from pyproject.toml and the tables in the source. -->

## What is supported

| | supported | tested |
| --- | --- | --- |
| Python | {python}, CPython | {pythons}, by the release workflow |
| ONNX Runtime | {oldest} or newer | {oldest} and {newest}; a newer one gives a warning |
| system | Linux with glibc 2.28 or newer, x86-64 | the same |
| macOS, Windows, musl, ARM | not supported: no wheels. A build may work, with the baseline kernels. | not tested |
| hosts | Python programs | C, C++, C#, Java and Go cannot load the library: it needs a Python interpreter in the process |
| models | ONNX opset 7 or newer, [operators](../supported-models.md) \
| ONNX's node tests, [how](../explanation/accuracy.md#how-it-is-tested) |
| element types | float32; float16 and bfloat16, computed in float32; 8-bit integers | \
[others run on the CPU provider](../how-to/not-faster.md#2-are-the-weights-of-a-supported-type) |

All instruction sets are in one wheel. The best one of the CPU is chosen at run time, the option `isa` chooses another:

| instruction set | CPU features | floats per vector |
| --- | --- | --- |
{isas}

Other packages that the extras install, with their lowest versions:

| extra | packages |
| --- | --- |
{extras}

## Versions

Versions follow [SemVer](https://semver.org): MAJOR.MINOR.PATCH. While MAJOR is 0, a new MINOR may break what this table calls stable; the
[changelog](../../CHANGELOG.md) says so.

| part | promise within a MAJOR version |
| --- | --- |
| [Python API](api.md), [options](../options.md), [commands](cli.md) and exit codes | stable: names stay and keep their meaning |
| codes of [reasons](../reasons.md), keys of JSON documents | stable |
| compressed models | every later version reads them |
| results | [within the promises](../../README.md#promises); last digits may change with a MINOR version |
| compiled models, `cache_dir` | not stable: only versions with the same layout read them. Keep the original model. |
| texts of messages and reasons, tables on the screen | not stable: compare codes instead |
| which nodes are taken, and how fast | not stable: they follow the cost model |
| names that are not in the [Python API](api.md), C symbols | internal |

The oldest supported version of ONNX Runtime may rise with a MINOR version. A version of Python is dropped when its own support ends. The
latest release gets fixes: [security policy](../../SECURITY.md).

In a mixed fleet, install the same version of this package on all hosts before you ship a compiled model. Compressed models need no such
order.
"""


ROLES = ("product", "recurrent", "activation", "neighbour", "integers", "numbers")


def operators() -> str:
    """Return the table of operators; those of equal role and limits share a row."""
    rows: dict[tuple[str, str], list[str]] = {}
    for row in sorted(
        (*ops.OPS.values(), *ops.NAMESAKES.values(), *ops.INTEGER_ROWS.values(), *ops.NUMBERS.values()),
        key=lambda row: ROLES.index(row.role),
    ):
        if row.domains == (FUSED,):
            continue
        names = [f"`{domain + '.' if domain else ''}{row.op_type}`" for domain in row.domains if domain != "ai.onnx"]
        rows.setdefault((row.role, row.note), []).extend(names)
    return "\n".join(f"| {', '.join(names)} | {role} | {note} |" for (role, note), names in rows.items())


def all_reasons() -> str:
    """Return the table of reasons; fields stand without their formats."""
    fields = re.compile(r"\{(\w+)[^}]*\}")
    rows = [(row.code, fields.sub(r"{\1}", row.text), row.advice, row.option and f"`{row.option}`") for row in reasons.REASONS]
    return "\n".join(f"| `{code}` | `{text}` | {advice} | {option} |" for code, text, advice, option in rows)


def environment() -> str:
    """Return the page about environment variables."""
    rows = [f"| `{option.variable}` | `{option.name}` | {option.valid} |" for option in options.OPTIONS]
    others = [f"| {', '.join(f'`{n}`' for n in name.split(', '))} | {read} | {meaning} |" for name, read, meaning in OTHER_VARIABLES]
    return ENVIRONMENT.format(options="\n".join(rows), others="\n".join(others))


def formats() -> str:
    """Return the page about file formats."""
    return FORMATS.format(
        domain=schema.DOMAIN,
        operators=schema.VERSION,
        codec=weight_codec.FRAME.magic.decode(),
        codec_version=weight_codec.FRAME.version,
        program=serialize.FRAME.magic.decode(),
        program_version=serialize.FRAME.version,
        verdict=verdict.FRAME.magic.decode(),
        verdict_version=verdict.FRAME.version,
        schema=common.SCHEMA,
        masks=(inspect.getdoc(inspect.getmodule(sparse.Masks)) or "").partition("\n\n")[2],
    )


def support() -> str:
    """Return the page about supported systems and versions."""
    classified = [line.rpartition(" :: ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    isas = [f"| `{isa.name}` | {', '.join(f'`{name}`' for name in isa.features) or 'none: any CPU'} | {isa.lanes} |" for isa in ISAS]
    extras = {"none": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    shown = [
        f"| {f'`[{name}]`' if name != 'none' else name} | {', '.join(f'`{each}`' for each in extras[name])} |" for name in USERS_EXTRAS
    ]
    return SUPPORT.format(
        python=PROJECT["requires-python"].removeprefix(">=") + " or newer",
        pythons=", ".join(classified),
        oldest=".".join(map(str, registration.OLDEST)),
        newest=".".join(map(str, registration.NEWEST_TESTED)),
        isas="\n".join(isas),
        extras="\n".join(shown),
    )


USERS_EXTRAS = ("none", "onnxruntime", "cli", "demo", "prune")
"""Extras that the package itself needs; the others are for examples and development."""

MEASURED = re.compile(r"(?<=^<!-- data/)([\w-]+)\.json(?:: (.+?))? -->\n.*?(?=^<!-- end -->$)", re.M | re.S)
"""A table of measurements on a page: its document in data/, and its name where a document has several."""


def measurements(match: re.Match[str]) -> str:
    """Return a table of measurements with the machine and the date below it."""
    file = f"{match[1]}.json"
    document = json.loads((HERE / "data" / file).read_text())
    (table,) = (table for table in document["tables"] if table["name"] == (match[2] or ""))
    first = file + (f": {match[2]}" if match[2] else "")
    machine = document.get("machines", [document])[-1]
    about = f"{machine['cpu']}, {machine['isa']}, onnxruntime {machine['onnxruntime']}, {document['date']}"
    return f"{first} -->\n\n{TABLES['markdown'](table)}\n\n*{about}: [figures](data/{file})*\n\n"


def documents() -> dict[str, str]:
    """File name -> text."""
    variables = ", ".join(f"`{option.variable}`" for option in options.OPTIONS)
    return {
        **{name: MEASURED.sub(measurements, (HERE / name).read_text()) for name in ("benchmarks.md", "benchmark-tables.md")},
        "options.md": OPTIONS.format(
            table=options.markdown(),
            variables=variables,
            dynamic=options.dynamic_markdown(),
            runtime=options.RUNTIME_PREFIX,
            workers=options.MAX_WORKERS,
            zeros=measured.LEAST_ZEROS,
            counts=", ".join(map(str, COUNTS[:-1])) + f" and {COUNTS[-1]}",
        ),
        "reference/api.md": interfaces.API.format(entries=interfaces.api()),
        "reference/environment.md": environment(),
        "reference/errors.md": ERRORS.format(errors=messages.markdown()),
        "reference/file-formats.md": formats(),
        "reference/support.md": support(),
        "reference/cli.md": interfaces.COMMAND_LINE.format(commands=interfaces.command_line()),
        "reasons.md": REASONS.format(reasons=all_reasons()),
        "supported-models.md": MEASURED.sub(measurements, MODELS.format(operators=operators(), rank=limits.MAX_RANK)),
    }


if __name__ == "__main__":
    for name, text in documents().items():
        (HERE / name).write_text(text)
