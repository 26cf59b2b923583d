"""The page in a real browser: it fits a phone and a desk, folded or not, and asks for nothing from elsewhere."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from report_making import INFO, WHEN, failed, nodule, scored

from noduleserve.ct.doubt import InputWarning
from noduleserve.results.outcome import Outcome
from noduleserve.results.report.about import About, Parity, ParityLine
from noduleserve.results.report.night import gather
from noduleserve.results.report.page import Reference, write_night
from noduleserve.results.report.verdict import of_worklist

WIDTHS = (390, 1280)
LONG = "1.2.840.113619.2.55.3.2831164355.784.1504072018.467"  # what patients' and series' ids are like
# Each width is a frame; what runs is the frame's parent, so that the page keeps its own policy of content.
HARNESS = """<!doctype html><meta charset="utf-8"><body>{frames}<pre id="measured"></pre><script>
function measured(frame) {{
  const page = frame.contentDocument, width = frame.contentWindow.innerWidth;
  const wide = () => [...page.body.querySelectorAll("*")].filter(e => {{
    const box = e.getBoundingClientRect();
    return box.width && !e.parentElement.closest(".scroll, svg") && (box.right > width + 0.5 || box.left < -0.5);
  }}).map(e => e.outerHTML.slice(0, 120));
  const folded = wide();
  page.querySelectorAll("details").forEach(d => d.open = true);
  return {{width, scroll: page.documentElement.scrollWidth, folded, unfolded: wide(),
    pictures: [...page.images].map(i => i.naturalWidth),
    asked: frame.contentWindow.performance.getEntriesByType("resource").map(e => e.name)
      .filter(name => !name.startsWith("data:"))}};
}}
addEventListener("load", () => document.getElementById("measured").textContent =
  JSON.stringify([...document.querySelectorAll("iframe")].map(measured)));
</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with every section, and with ids and words as long as they come."""
    warning = InputWarning("VIEWS_BEYOND_VOLUME", "The views reach 12 mm beyond the volume.", "Prefer a longer series.")
    scanner = {"Manufacturer": "Canon Medical Systems", "ManufacturerModelName": LONG, "SliceThickness": "1"}
    outcomes = [
        dataclasses.replace(scored(n, pid=LONG, site=LONG * 2), scanner=scanner, warnings=(warning,) * (n % 3 == 0))
        for n in range(240)
    ]
    outcomes += [failed(240 + n, f"File {LONG}.dcm ends early. Mend: Send {LONG}.", pid=LONG) for n in range(20)]
    night = gather(((o, WHEN.timestamp() + 40 * n + 4000 * (n > 99)) for n, o in enumerate(outcomes)), top=2)
    rows = [outcome.nodule for outcome in outcomes] + [nodule(260 + n, LONG) for n in range(3)]
    about = About(
        WHEN, "Morning report", f"{LONG}.csv", f"{LONG}.journal", f"noduleserve report {LONG} --out {LONG}", "2",
        Parity("4 nodules (synthetic)", (ParityLine(f"graph ({LONG} -> {LONG})", 1e-7, 1e-4),)),
        alarms=(f"The release folder given is {LONG}.",), left_out=(LONG * 3,),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "report.html"
    info = dataclasses.replace(INFO, notice="Untrained demo weights.")
    views: list = [_views(outcome) for outcome in night.top]
    reference = Reference(f"{LONG}.journal", gather((outcome, 0.0) for outcome in outcomes))
    write_night(path, night, of_worklist(night, rows), info, about, views, reference=reference)
    return path


def _views(outcome: Outcome) -> object:
    assert outcome.views is not None
    return outcome.views


def test_nothing_reaches_beyond_the_width_and_nothing_is_fetched(page: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium to lay the page out")
    source = html.escape(page.read_text(encoding="utf-8"))
    frames = "".join(
        f'<iframe width="{width}" height="2000" frameborder="0" srcdoc="{source}"></iframe>' for width in WIDTHS
    )
    (tmp_path / "harness.html").write_text(HARNESS.format(frames=frames), encoding="utf-8")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom",
            f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "harness.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found[1], done.stderr[-2000:]
    for width, measured in zip(WIDTHS, json.loads(html.unescape(found[1])), strict=True):
        assert measured["width"] == width
        assert measured["folded"] == measured["unfolded"] == []
        assert measured["scroll"] <= width
        assert measured["pictures"] == [50] * 18  # the page's own policy lets its own pictures through
        assert measured["asked"] == []


def test_no_address_stands_where_a_browser_would_follow_it(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in source
    sources = re.findall(r"""(?:src|href|srcset|action|poster|data)\s*=\s*["']?([^"'\s>]+)""", source)
    assert sources and all(s.startswith(("#", "data:image/png;base64,")) for s in sources)
    assert not re.search(r"https?://|url\(|@import|<script", source)
