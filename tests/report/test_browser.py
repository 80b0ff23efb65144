"""The report in a real browser: tables sort on a click, plots show, nothing is loaded from elsewhere.

Needs Chromium: found on the PATH, or named by KEXUE_BROWSER. Its screenshot goes to KEXUE_SCREENSHOT.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from kexue_pl.report.figures import new_figure, save
from kexue_pl.report.sweeps import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "headless_shell")
BROWSER = os.environ.get("KEXUE_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
FLAGS = ["--headless", "--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"]
FLAGS += ["--single-process", "--no-zygote", "--use-gl=angle", "--use-angle=swiftshader"]

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium; name one in KEXUE_BROWSER")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    for number, value in enumerate([0.7, 0.9, 0.8]):
        folder = tmp_path / "sweep" / str(number)
        figure, axes = new_figure()
        axes.plot([0, value], label="准确率")
        save(figure, folder / "plots" / "curve.png")
        settings = {"loss": {"_target_": f"a.b.Loss{number}"}, "seed": 0}
        (folder / "config_resolved.yaml").write_text(yaml.safe_dump(settings))
        found = {"status": "completed", "metrics": {"test/spearman": value}}
        (folder / "summary.json").write_text(json.dumps(found))
    report(tmp_path / "sweep")
    return tmp_path / "sweep" / "report.html"


async def visit(page: Path, profile: Path, scripts: list[str]) -> tuple[list[Any], bytes]:
    """The values of the scripts on the loaded page, and a screenshot."""
    import aiohttp

    command = [str(BROWSER), *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    browser = subprocess.Popen([*command, "about:blank"], stderr=subprocess.PIPE, text=True)
    assert browser.stderr is not None
    try:
        line = next(x for x in browser.stderr if "DevTools listening" in x)
        port = line.partition("127.0.0.1:")[2].partition("/")[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                address = (await answer.json())[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(address, max_msg_size=0) as socket:
                number = 0

                async def call(method: str, **values: Any) -> dict[str, Any]:
                    nonlocal number
                    number += 1
                    await socket.send_json({"id": number, "method": method, "params": values})
                    while (told := await socket.receive_json()).get("id") != number:
                        pass
                    return told["result"]

                await call("Page.navigate", url=page.as_uri())
                ready = "document.readyState"
                while (await call("Runtime.evaluate", expression=ready))["result"][
                    "value"
                ] != "complete":
                    await asyncio.sleep(0.1)
                values = []
                for script in scripts:
                    told = await call("Runtime.evaluate", expression=script, returnByValue=True)
                    values.append(told["result"]["value"])
                shot = await call("Page.captureScreenshot", captureBeyondViewport=True)
    finally:
        browser.kill()
        browser.wait()
        browser.stderr.close()
    return values, base64.b64decode(shot["data"])


def test_report_in_a_browser(page: Path, tmp_path: Path) -> None:
    column = "[...document.querySelectorAll('tbody tr')].map(r => r.children[0].textContent)"
    head = "[...document.querySelectorAll('th')].find(h => h.textContent.startsWith('test/'))"
    scripts = [
        column,
        f"{head}.click(), {column}",
        f"{head}.click(), {column}",
        "[...document.images].every(i => i.complete && i.naturalWidth > 200) && document.images.length",
        "performance.getEntriesByType('resource').filter(r => !r.name.startsWith('data:')).length",
    ]
    values, shot = asyncio.run(asyncio.wait_for(visit(page, tmp_path / "profile", scripts), 60))
    before, up, down, images, loaded = values
    assert before == ["loss=Loss0", "loss=Loss1", "loss=Loss2"]
    assert up == ["loss=Loss0", "loss=Loss2", "loss=Loss1"]
    assert down == up[::-1]
    assert images == 4  # the overview and a plot of each run
    assert loaded == 0
    assert shot.startswith(b"\x89PNG")
    if target := os.environ.get("KEXUE_SCREENSHOT"):
        Path(target).write_bytes(shot)
