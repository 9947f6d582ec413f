"""`ort-sparse`, also `python -m onnxruntime_ep_sparse`."""

from __future__ import annotations

import importlib.util
import io
import sys


def main() -> None:
    """Run the command line; without what it needs, print how to install that and exit with 2."""
    missing = [name for name in ("typer", "rich", "onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"ort-sparse needs {', '.join(missing)}: pip install {' '.join(missing)}", file=sys.stderr)
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")  # names in models may have any character
    from .cli import app

    app(prog_name="ort-sparse")


if __name__ == "__main__":
    main()
