"""Builds what a Dockerfile describes, without an engine: its lines are read, and its RUN and COPY lines are carried out."""

import json
import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from support.roots import Root, execute


@dataclass
class Image:
    """A root file system, and how a container of the image starts."""

    root: Root
    user: str = "0:0"
    directory: str = "/"
    entry: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)


def instructions(text):
    r"""Yield the name and the rest of every instruction: without comments, and with the lines joined that end with \."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, rest = line.split(None, 1)
        yield name.upper(), rest.strip()


def build(dockerfile, context, bases, folder, mounts, **environment):
    """Carry a Dockerfile out and return the image of its last stage.

    `bases` maps the name of each base image to the function that makes its root in an empty folder. `mounts` and `environment` are
    there while the image is built, and not part of it.
    """
    ignored = dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text().split("\n")
    patterns = [line.removeprefix("**/") for line in ignored if line and not line.startswith("#")]
    values, stages, image = {}, {}, None
    for name, line in instructions(dockerfile.read_text()):
        rest = line if name == "RUN" else re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], line)
        if name == "ARG":
            key, value = rest.split("=")
            values[key] = value
        elif name == "FROM":
            base, *alias = rest.split()
            place = folder / str(len(stages))
            place.mkdir()
            image = stages[alias[1] if alias else str(len(stages))] = Image(bases[base](place))
        elif name == "COPY":
            *sources, target = rest.split()
            _copy(context, sources, _inside(image, target), shutil.ignore_patterns(*patterns))
        elif name == "RUN":
            process = _run(image, stages, rest, mounts, environment)
            assert process.returncode == 0, f"RUN {rest}\n{process.stdout[-3000:]}{process.stderr[-3000:]}"
        elif name == "WORKDIR":
            image.directory = rest
            _inside(image, rest).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            key, value = rest.split("=")
            image.root.environment[key] = value
        elif name == "USER":
            image.user = rest
        elif name == "ENTRYPOINT":
            image.entry = json.loads(rest)
        elif name == "CMD":
            image.arguments = json.loads(rest)
        else:
            raise NotImplementedError(name)
    return image


def start(image, *arguments, user=None, **settings):
    """Run a container of an image, with other arguments than its own if there are any; returns the finished process."""
    command = [*image.entry, *(arguments or image.arguments)]
    return execute(image.root, command, user or image.user, image.directory, **settings)


def _inside(image, path):
    """The place of a path of an image in this system."""
    return image.root.folder / str(Path(image.directory, path)).lstrip("/")


def _copy(context, sources, target, ignore):
    """As COPY does: files into a folder, the content of a folder under the target's name."""
    for source in sources:
        if (context / source).is_dir():
            shutil.copytree(context / source, target, ignore=ignore, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy2(context / source, target / source)


def _run(image, stages, rest, mounts, environment):
    """Carry out a RUN line: its mounts from other stages, then its shell command."""
    mounts = dict(mounts)
    while found := re.match(r"--mount=(\S+)\s+", rest):
        asked = dict(part.split("=", 1) for part in found[1].split(","))
        assert asked["type"] == "bind"
        mounts[asked["target"]] = _inside(replace(stages[asked["from"]], directory="/"), asked["source"])
        rest = rest[found.end() :]
    return execute(image.root, ["/bin/sh", "-c", rest], image.user, image.directory, mounts=mounts, **environment)
