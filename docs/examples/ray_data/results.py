"""The folder of results: parquet parts that appear when they are complete, and which images they hold."""

from __future__ import annotations

import fcntl
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from onnxruntime_ep_sparse import files


class Results:
    """A folder of results of one kind of job. One process at a time writes to it.

    `settings` are what the results depend on. They stand in `job.json`, and another job is refused: ValueError. `done` are the paths that
    have a result or an error, so a job goes on where it was stopped, killed or not. Use it as a context manager: it writes what is left.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another job writes to {folder} now") from None
        job = folder / "job.json"
        if not job.exists():
            files.write(job, json.dumps(settings, indent=1).encode())
        elif differing := [key for key, value in json.loads(job.read_text()).items() if settings.get(key) != value]:
            raise ValueError(f"{folder} has results of another job ({', '.join(differing)} differ): choose another folder for the results")
        self.waiting: list[pa.Table] = []
        self.done: set[str] = set()
        for part in self.parts():
            self.done.update(pq.read_table(part, columns=["path"])["path"].to_pylist())

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *error: object) -> None:
        self.write()
        self.lock.close()

    def parts(self) -> list[Path]:
        """Return the files of results in the order in which they were written."""
        return sorted(self.folder.glob("part-*.parquet"))

    def forget_errors(self) -> None:
        """Take the errors out of the parts, so that their images are tried again."""
        for part in self.parts():
            table = pq.read_table(part)
            good = table.filter(table["error"].is_null())
            if len(good) < len(table):
                self.done -= set(table["path"].to_pylist()) - set(good["path"].to_pylist())
                files.write(part, _parquet(good))

    def add(self, rows: pa.Table) -> None:
        """Keep rows for the next part."""
        self.waiting.append(rows)
        self.done.update(rows["path"].to_pylist())

    def write(self) -> None:
        """Write the rows that wait as a part. It appears under its name when it is complete and on the disk."""
        if self.waiting:
            number = int(self.parts()[-1].stem.removeprefix("part-")) + 1 if self.parts() else 0
            files.write(self.folder / f"part-{number:06d}.parquet", _parquet(pa.concat_tables(self.waiting)))
            self.waiting = []


def _parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()
