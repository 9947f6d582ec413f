"""Who may import whom: a folder imports only folders that stand below it. Python and Cython alike; type-only imports do not count."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "provider" / "onnxruntime_ep_sparse"
LAYERS = [  # from the ground up; names on one layer do not import each other
    ["cpus"],
    ["_version", "files", "framed", "graph", "runtime", "options", "reasons", "records", "timing"],
    ["program", "formats", "cache_folder"],
    ["ops"],
    ["passes"],
    ["partition", "pipeline"],
    ["ort"],
    ["diagnostics"],
    ["models"],
    ["measure"],
    ["prune"],
    ["reporting"],
    ["cli"],
    ["__init__", "__main__"],
]
LAYER = {name: i for i, names in enumerate(LAYERS) for name in names}
IMPORT = re.compile(r"^\s*from (\.+)([\w.]*) c?import (\([^)]*\)|[^\n]*)", re.M)
ABSOLUTE = re.compile(r"^\s*from onnxruntime_ep_sparse(?!_kernels)[.\w]* c?import", re.M)


def imported(path):
    """Names below the package that a file imports."""
    text = re.sub(r"if TYPE_CHECKING:\n(?:    .*\n)+", "", path.read_text())
    assert not ABSOLUTE.search(text), f"{path}: imports within the package are relative"
    folder = path.relative_to(ROOT).parts[:-1]
    for dots, module, names in IMPORT.findall(text):
        base = folder[: len(folder) - len(dots) + 1]
        yield from [(*base, *module.split("."))[0]] if module or base else [n.split()[0] for n in names.strip("()").split(",") if n.split()]


def test_layers():
    """Every import goes down."""
    wrong = []
    for path in sorted(p for p in ROOT.rglob("*") if p.suffix in (".py", ".pyx", ".pxd")):
        here = path.relative_to(ROOT).parts[0].split(".")[0]
        assert here in LAYER, f"{here} has no layer"
        wrong += [(path.name, name) for name in imported(path) if name in LAYER and name != here and LAYER[name] >= LAYER[here]]
    assert not wrong, wrong
