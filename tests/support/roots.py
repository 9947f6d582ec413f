"""Root file systems without a container engine: a slim one made of this system's files, and commands that run in one.

Needs Linux and root's rights, for mounts that only the command itself sees.
"""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

DEBIAN = ["sh", "env", "ls", "cat", "mkdir", "rm", "id", "sleep"]
"""What of a slim Debian the commands of a Dockerfile and of tests may call."""
LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "libdl.so.2")
"""That a slim Debian has, whatever its programs need."""
ISOLATED = ["unshare", "--mount", "--pid", "--fork", "--net", "--ipc", "--uts", "--propagation", "private"]
USUAL = ("proc", "sys", "shm", "devices")
"""What a container engine mounts: /proc, /sys, /dev/shm, and devices besides /dev/null."""
LONGEST = 3000
"""Seconds of a command: a build on a busy machine."""
NOT_SHARED = {"proc", "sys", "dev", "tmp", "run", "mnt", "media", "lost+found"}


@dataclass
class Root:
    """A root file system: a folder, and folders of this system that are seen in it, read-only."""

    folder: Path
    shared: dict[str, Path] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


@cache
def obstacle():
    """Why nothing can run in another root here, or nothing."""
    if sys.platform != "linux" or shutil.which("unshare") is None or shutil.which("chroot") is None:
        return "needs Linux with unshare and chroot"
    probe = subprocess.run([*ISOLATED, "mount", "--bind", "/dev", "/dev"], capture_output=True, text=True, check=False)
    return "" if probe.returncode == 0 else f"needs root's rights to mount: {probe.stderr.strip()}"


def execute(root, command, user="0:0", directory="/", system=USUAL, read_only=False, mounts=None, before="", **environment):
    """Run a command in a root, without a network, and return the finished process.

    `system` names what exists of USUAL; /dev/null always does. `mounts` are folders of this system, by their places
    in the root. `before` is a line of shell that runs outside of the root, in the process that becomes the command.
    """
    folder = root.folder
    lines = ["set -e", f"mount --bind {folder} {folder}"]
    shared = {**root.shared, **(mounts or {})}
    for target, source in shared.items():
        place = folder / target.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        lines.append(f"mount --rbind {shlex.quote(str(source))} {place}")
        if target in root.shared:
            lines.append(f"mount -o remount,ro,bind {place}")
    for name in ("proc", "sys", "dev"):
        (folder / name).mkdir(exist_ok=True)
    lines.append(f"mount -t tmpfs -o mode=755 dev {folder}/dev")
    for name in ("null", *(name for name in ("zero", "random", "urandom") if "devices" in system)):
        lines.append(f"touch {folder}/dev/{name} && mount --bind /dev/{name} {folder}/dev/{name}")
    if "shm" in system:
        lines.append(f"mkdir {folder}/dev/shm && mount -t tmpfs -o mode=1777 shm {folder}/dev/shm")
    if "proc" in system:
        lines.append(f"mount -t proc proc {folder}/proc")
    if "sys" in system:
        lines.append(f"mount --rbind /sys {folder}/sys")
    if read_only:
        lines.append(f"mount -o remount,ro,bind {folder}")
    variables = [f"{key}={value}" for key, value in {"PATH": "/usr/local/bin:/usr/bin:/bin", **root.environment, **environment}.items()]
    inside = f'cd {shlex.quote(directory)} && exec "$@"'
    words = [
        "chroot",
        f"--userspec={user}",
        "--groups=",
        str(folder),
        "/usr/bin/env",
        "-i",
        *variables,
        "/bin/sh",
        "-c",
        inside,
        "sh",
        *command,
    ]
    lines += [before, "exec " + " ".join(map(shlex.quote, words))]
    return subprocess.run([*ISOLATED, "/bin/sh", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=LONGEST, check=False)


def with_compiler(folder):
    """Make a root that has all programs of this system, read-only: it stands for an image with a compiler. `pip` is this environment's."""
    shared = {}
    for entry in Path("/").iterdir():
        if entry.is_symlink():
            (folder / entry.name).symlink_to(os.readlink(entry))
        elif entry.is_dir() and entry.name not in NOT_SHARED:
            shared[f"/{entry.name}"] = entry
    _temporary(folder)
    _pip(folder / "image" / "bin", folder / "image" / "lib")
    (folder / "image" / "bin" / "python").symlink_to(_interpreter())
    path = f"/image/bin:{os.environ['PATH']}"
    return Root(folder, shared, {"PATH": path, "PYTHONPATH": "/image/lib", "HOME": "/tmp"})


def slim(folder):
    """Make a root of a shell, a few programs, Python in /usr/local with pip, and the libraries that these need: no compiler."""
    for name in ("bin", "lib", "lib64", "sbin"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    python = _interpreter()
    library = Path(sysconfig.get_path("stdlib", vars=_base()))
    local = folder / "usr" / "local"
    packages = {library: local / "lib" / library.name, Path(sysconfig.get_path("platstdlib", vars=_base())): local / "lib" / library.name}
    for source, target in packages.items():
        leave = shutil.ignore_patterns("site-packages", "dist-packages", "test", "tests", "__pycache__", "config-*", "EXTERNALLY-MANAGED")
        shutil.copytree(source, target, ignore=leave, dirs_exist_ok=True)
    (local / "bin").mkdir()
    shutil.copy2(python, local / "bin" / python.name)
    for name in {"python", "python3"} - {python.name}:
        (local / "bin" / name).symlink_to(python.name)
    modules = [*(local / "lib" / library.name / "lib-dynload").glob("*.so")]
    programs = [Path(shutil.which(name)) for name in DEBIAN]
    for program in programs:
        shutil.copy2(program.resolve(), folder / "usr" / "bin" / program.name)
    for needed in _libraries([python, *modules, *programs]):
        inside = local / "lib" / needed.name if needed.name.startswith("libpython") else folder / str(needed).lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(needed.resolve(), inside)
    _temporary(folder)
    (folder / "root").mkdir()
    (folder / "etc").mkdir()
    (folder / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (folder / "etc" / "ld.so.conf").write_text("/usr/local/lib\n")
    subprocess.run([shutil.which("ldconfig") or "/sbin/ldconfig", "-r", folder], check=True)
    _pip(local / "bin", Path(f"{local}/lib/{library.name}/site-packages"))
    return Root(folder, {}, {"HOME": "/root"})


def _interpreter():
    """The interpreter that this environment is made of."""
    return Path(sys._base_executable).resolve()


def _base():
    """What paths of the standard library depend on: not on this environment."""
    return {"installed_base": sys.base_prefix, "installed_platbase": sys.base_exec_prefix, "platbase": sys.base_exec_prefix}


def _libraries(files):
    """The libraries that files need, by the names under which the loader finds them."""
    found = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout.split()
    listing = subprocess.run(
        [shutil.which("ldconfig") or "/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout.split()
    return sorted(
        {Path(word) for word in found if word.startswith("/") and not word.endswith(":")}
        | {Path(word) for word in listing if word.startswith("/") and Path(word).name in LIBRARIES and "32" not in Path(word).parts[-2]}
    )


def _pip(scripts, packages):
    """Put this environment's pip into folders of a root."""
    scripts.mkdir(parents=True, exist_ok=True)
    shutil.copytree(Path(importlib.util.find_spec("pip").origin).parent, packages / "pip", ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "pip").write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    (scripts / "pip").chmod(0o755)


def _temporary(folder):
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o1777)
