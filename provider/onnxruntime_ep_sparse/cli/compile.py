"""`ort-sparse compile`: a compiled model, whose regions are packed for the kernels, by ONNX Runtime's `ModelCompiler`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import NewFiles, check_target, shown
from ..formats.onnx_file import load, referenced_files
from ..graph.ir import EP_CONTEXT
from ..ort import registration
from ..records import counted
from .common import FailedError, JsonOption, Output, ProviderOptions, UsageError, provider_options
from .given import check_name, check_source
from .pack import size_of

Source = Annotated[Path, typer.Argument(metavar="IN", help="ONNX file, compressed by `pack` or not.")]
Target = Annotated[Path, typer.Argument(metavar="OUT.onnx", help="ONNX file to write; a link is followed.")]


def compile(
    source: Source,
    target: Target,
    *,
    beside: Annotated[
        bool, typer.Option("--beside", help="Write the weights to files beside OUT. They load faster and may exceed 2 GB.")
    ] = False,
    option: ProviderOptions = None,
    json: JsonOption = None,
) -> None:
    """Compile a model, so that sessions start faster.

    The regions that the provider takes are packed for its kernels, and OUT has no dense weights for them. OUT needs
    this provider. It runs on any instruction set, fastest on the one it is compiled for. Results are bit for bit those
    of IN.
    """
    out = Output("compile", json, source, [target])
    given = provider_options(option)
    check_source(source)
    place = target.resolve()
    for path in (source, place):
        check_name(path)
    try:
        check_target(target, referenced_files(source, load(source)))
    except UnicodeError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not place.suffix:
        raise UsageError(f"cannot write {shown(place)}: the name must end in .onnx")
    say = out.replaces(target)
    out.steps("compile", 0)
    try:
        ort = registration.runtime()
        compiler = ort.ModelCompiler(
            registration.session_options(given),
            str(source),
            embed_compiled_data_into_model=not beside,
            flags=ort.OrtCompileApiFlags.ERROR_IF_NO_NODES_COMPILED,
            graph_optimization_level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        )
        with NewFiles() as files:
            compiler.compile_to_file(str(files.folder(target)))
            files.commit()
    except ImportError:
        raise
    except OSError as error:
        raise FailedError(f"cannot write {shown(target)}: {error.strerror}") from None
    except Exception as error:
        full = "the disk is full: " if shutil.disk_usage(place.parent).free < size_of(source) else ""  # ONNX Runtime does not say it
        raise FailedError(f"cannot compile {shown(source)}: {full}{error}") from None
    finally:
        out.steps.close()
    out.steps("compile", 1)
    say()
    compiled = load(place)
    nodes = compiled.graph.node
    regions = [node for node in nodes if (node.domain, node.op_type) == EP_CONTEXT]
    files_of = referenced_files(place, compiled)
    out.keep(files_of)
    before, after = size_of(source), size_of(place)
    left = len(nodes) - len(regions)
    counts = f"{counted(len(regions), 'region')} compiled, {counted(left, 'node')} left"
    out.print(f"{counts}; {before / 1e6:.4g} MB became {after / 1e6:.4g} MB ({after / before:.1%})")
    document: dict[str, Any] = {"source": str(source), "target": str(target), "beside": beside, "options": given}
    sizes = {"bytes_before": before, "bytes_after": after, "files": [str(file) for file in files_of if file != place]}
    out.document({**document, **sizes, "regions": len(regions), "nodes_left": left})
