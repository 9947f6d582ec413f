"""Pages in headless Chromium."""

import shutil
import subprocess

import pytest

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--virtual-time-budget=3000")


def needs_chromium():
    """Skip a test where there is no Chromium, and say so."""
    if CHROMIUM is None:
        pytest.skip("no program `chromium` on the PATH: the page was not opened in a browser")


def opened(page, *arguments):
    """Open a file with these arguments; returns what is printed, and the messages of the page's console."""
    done = subprocess.run([CHROMIUM, *ARGUMENTS, *arguments, page.as_uri()], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
