"""The page of a report in headless Chromium: no errors, sorting, filtering, pictures."""

import json
import re
import struct
from html import unescape

import pytest

from support.browser import needs_chromium, opened

HOOK = """
<script>
addEventListener("load", () => {
  const rows = () => [...document.querySelectorAll("#nodes tbody tr")];
  const visible = () => rows().filter((row) => !row.hidden).map((row) => row.cells[0].textContent);
  const buttons = [...document.querySelectorAll("#nodes thead button")];
  const button = (title) => buttons.find((each) => each.textContent === title);
  const sorted = (title) => { button(title).click(); return [visible(), button(title).parentElement.getAttribute("aria-sort")]; };
  const told = { first: visible(), up: sorted("zeros"), down: sorted("zeros"), names: sorted("node") };
  const filter = document.getElementById("filter");
  filter.value = "RELU"; filter.dispatchEvent(new Event("input"));
  told.filtered = visible(); told.count = document.getElementById("count").textContent;
  filter.value = ""; filter.dispatchEvent(new Event("input"));
  const taken = document.getElementById("taken");
  taken.value = "yes"; taken.dispatchEvent(new Event("change"));
  told.taken = visible();
  told.bars = [...document.querySelectorAll("#layers rect")].map((bar) => [bar.dataset.ms, bar.getBoundingClientRect().width]);
  told.wide = document.documentElement.scrollWidth > innerWidth;
  const found = document.createElement("pre");
  found.id = "told"; found.textContent = JSON.stringify(told);
  document.body.append(found);
});
</script>
"""


@pytest.fixture(scope="module")
def told(page):
    """What the page says after the clicks, on the screen of a phone."""
    needs_chromium()
    hooked = page.with_name("hooked.html")
    hooked.write_text(page.read_text() + HOOK)
    out, console = opened(hooked, "--window-size=390,844", "--dump-dom")
    assert console == []
    return json.loads(unescape(re.search(r'<pre id="told">(.*?)</pre>', out, re.S)[1]))


def test_sorts(told, made):
    """A click sorts by numbers, another one turns the order round; nodes without a value stay at the end."""
    rows = made.records()
    known = sorted((row["sparsity"], row["name"]) for row in rows if row["sparsity"] is not None)
    assert told["first"] == [row["name"] for row in rows]
    for way, order, words in (("up", known, "ascending"), ("down", known[::-1], "descending")):
        names, said = told[way]
        assert names[: len(known)] == [name for _, name in order]
        assert said == words
    assert told["names"] == [sorted(told["first"]), "ascending"]


def test_filters(told, made):
    """Words leave the rows that have them all; the choice leaves what is taken."""
    relus = [row["name"] for row in made.records() if "relu" in f"{row['name']} {row['op_type']} {row['reason']}".lower()]
    assert sorted(told["filtered"]) == sorted(relus)
    assert 0 < len(relus) < len(told["first"])
    assert told["count"] == f"{len(relus)} of {len(told['first'])} nodes"
    assert sorted(told["taken"]) == sorted(row["name"] for row in made.records() if row["taken"])


def test_bars_are_as_long_as_their_numbers(told, made):
    """Lengths on the screen are proportional to the milliseconds of the document."""
    layers = made.to_dict()["layers"]
    times = [row[key] for row in [*layers["rows"], layers["rest"]] for key in ("cpu_ms", "ms")]
    assert [float(ms) if ms else None for ms, _ in told["bars"]] == times
    longest, width = max((time or 0.0, drawn) for time, (_, drawn) in zip(times, told["bars"], strict=True))
    for time, (_, drawn) in zip(times, told["bars"], strict=True):
        assert drawn == pytest.approx(width * (time or 0.0) / longest, abs=0.1)


def test_fits_a_phone(told):
    """Only tables scroll sideways, not the page."""
    assert not told["wide"]


def test_screenshot(page, tmp_path):
    """The page is drawn, at the width of a desktop and in the dark."""
    needs_chromium()
    picture = tmp_path / "page.png"
    _, console = opened(page, "--window-size=1200,900", "--blink-settings=preferredColorScheme=0", f"--screenshot={picture}")
    assert console == []
    data = picture.read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1200, 900)
    assert len(data) > 20_000
