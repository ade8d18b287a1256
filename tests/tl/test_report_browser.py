"""The page on a model in headless Chromium: nothing is complained of, and its controls do what they say.

The browser is spoken to by its devtools protocol; where there is none, nothing is tested.
"""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import latentcell as lc

aiohttp = pytest.importorskip("aiohttp")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str | None:
    return next((found for found in map(shutil.which, NAMES) if found), None)


class Browser:
    """One page at a time, with everything that it complains of in :attr:`complaints`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True)
        self.complaints, self.requests = [], []
        self.loop = asyncio.new_event_loop()
        self.number = 0
        self.process = subprocess.Popen(
            [
                chromium() or "chromium",
                "--headless=new",
                "--hide-scrollbars",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-extensions",
                "--disable-background-networking",
                "--remote-debugging-port=0",
                "--remote-allow-origins=*",
                f"--user-data-dir={self.folder.name}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.loop.run_until_complete(asyncio.wait_for(self._connect(), 90))
        except BaseException:
            self.close()
            raise

    async def _connect(self):
        port = Path(self.folder.name) / "DevToolsActivePort"
        while not (port.is_file() and port.read_text().count("\n")):
            if self.process.poll() is not None:
                raise RuntimeError(f"chromium ended with {self.process.returncode}")
            await asyncio.sleep(0.1)
        self.session = aiohttp.ClientSession()
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
        while True:
            async with self.session.get(address) as answer:
                pages = [page for page in await answer.json() if page["type"] == "page"]
            if pages:
                break
            await asyncio.sleep(0.1)
        self.socket = await self.session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._send(f"{domain}.enable", {})

    async def _send(self, method, params):
        self.number += 1
        number = self.number
        await self.socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = json.loads((await asyncio.wait_for(self.socket.receive(), 60)).data)
            self._note(message)
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]

    def _note(self, message):
        method, params = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"])[:800])
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"])[:800])
        if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])

    def send(self, method, **params):
        return self.loop.run_until_complete(self._send(method, params))

    def ask(self, code):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:800])
        return found["result"].get("value")

    def open(self, path, width=1280, height=900):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.complaints.clear()
        self.requests.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        self.wait_for("document.readyState === 'complete' && 'ready' in document.documentElement.dataset")
        self.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def wait_for(self, condition, seconds=30):
        end = time.monotonic() + seconds
        while not self.ask(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition}; {self.complaints}")
            time.sleep(0.05)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def move(self, x, y):
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, path):
        """The whole page as a PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        found = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        Path(path).write_bytes(base64.b64decode(found["data"]))

    def close(self):
        async def end():
            with contextlib.suppress(Exception):
                await self.socket.close()
            with contextlib.suppress(Exception):
                await self.session.close()

        self.loop.run_until_complete(end())
        self.loop.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
        self.folder.cleanup()


HOSTILE = "</script><b>\"T'&\u2028 Zürich 细胞"
SIZES = {HOSTILE: 60, "B": 40, "NK": 20}
N = sum(SIZES.values())


@pytest.fixture(scope="module")
def browser():
    if chromium() is None:
        pytest.skip("no chromium")
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A page on a conditional VAE of 120 cells with 50 generated ones."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1, 2], list(SIZES.values()))
    rate = rng.gamma(1.0, 2.0, size=(3, 20)) + 0.3
    adata = ad.AnnData(rng.poisson(rate[kind]).astype(np.float32))
    adata.obs_names = [f"cell<{i}>" for i in range(N)]
    adata.obs["kind"] = pd.Categorical(np.array(list(SIZES))[kind], categories=list(SIZES))
    adata.obs["age"] = np.linspace(20, 80, N)
    adata.obsm["X_mine"] = np.stack([np.arange(N) % 12, np.arange(N) // 12], axis=1).astype(float)
    lc.model.CVAE.setup_anndata(adata, labels_key="kind")
    model = lc.model.CVAE(adata, n_latent=3, hidden=(8,), gene_likelihood="nb")
    model.train(max_epochs=2, enable_progress_bar=False)
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latentcell.tl._page.judge.score", lambda *_: no_scores())
        lc.tl.report(adata, model, folder / "both.html", basis="pca", n_generated=50)
        lc.tl.report(adata, model, folder / "grid.html", basis="X_mine", n_generated=0, genes=["1"])
    return folder


def no_scores():
    raise lc.model.abstract.DataError("not scored here")


def shown(browser, number=0):
    return int(browser.ask(f"document.querySelectorAll('canvas')[{number}].dataset.shown"))


def said(browser, number=0):
    return browser.ask(f"document.querySelectorAll('.said')[{number}].textContent")


def click(browser, selector):
    browser.ask(f"document.querySelector({json.dumps(selector)}).click()")


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_complained_of_and_nothing_else_is_loaded(browser, path, width):
    browser.open(path / "both.html", width)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [(path / "both.html").as_uri()]
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert shown(browser) == N
    assert [shown(browser, 1), shown(browser, 2)] == [N, 50]


def test_something_is_drawn_in_the_colours_of_the_legend(browser, path):
    browser.open(path / "both.html")
    found = browser.ask("""
        [...document.querySelectorAll("canvas")].map((canvas) => {
            const d = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const colors = new Set();
            for (let i = 0; i < d.length; i += 4)
                if (d[i + 3] === 255) colors.add([d[i], d[i + 1], d[i + 2]].join());
            return [...colors];
        })""")
    legend = browser.ask(
        "[...document.querySelectorAll('.map:first-of-type .swatch')].slice(0, 3)"
        ".map((s) => getComputedStyle(s).backgroundColor.replace(/[^0-9,]/g, ''))"
    )
    assert len(legend) == 3
    for colors in found:
        assert set(legend) <= set(colors)


def test_names_stay_text(browser, path):
    browser.open(path / "both.html")
    names = "document.querySelectorAll('.legend')[0].querySelectorAll('label span:nth-of-type(2)')"
    labels = browser.ask(f"[...{names}].map((e) => e.textContent)")
    assert labels == list(SIZES)
    assert browser.ask("document.querySelectorAll('b:not(.remarks b)').length") == 0


def test_groups_are_switched_off_and_on(browser, path):
    browser.open(path / "both.html")
    off = 0
    for code, n in enumerate(SIZES.values()):
        click(browser, f".legend input[data-code='{code}']")
        off += n
        assert shown(browser) == N - off
        assert said(browser) == f"{N - off} of {N} real cells shown"
    assert [shown(browser, 1), shown(browser, 2)] == [N, 50]  # the other map has filters of its own
    click(browser, "button[data-turn='on']")
    assert shown(browser) == N
    boxes = "document.querySelectorAll('.legend')[0].querySelectorAll('input')"
    assert browser.ask(f"[...{boxes}].every((box) => box.checked)")
    click(browser, "button[data-turn='off']")
    assert shown(browser) == 0
    browser.ask("document.querySelectorAll('.map')[1].querySelector(\"input[data-code='0']\").click()")
    left = 50 - round(50 * SIZES[HOSTILE] / N)
    assert [shown(browser, 1), shown(browser, 2)] == [N - SIZES[HOSTILE], left]
    assert said(browser, 1) == f"{N - SIZES[HOSTILE]} of {N} real cells, {left} of 50 generated cells shown"
    assert browser.complaints == []


def place(browser, i):
    """Where cell i of the grid is on the screen."""
    box = browser.ask("""(() => {
        const canvas = document.querySelector("canvas");
        canvas.scrollIntoView({block: "center"});
        const box = canvas.getBoundingClientRect();
        return [box.left, box.top, canvas.clientWidth, canvas.clientHeight];
    })()""")
    left, top, width, height = box
    x, y = (i % 12) / 11, (i // 12) / 9
    return left + 8 + x * (width - 16), top + height - 8 - y * (height - 16)


def test_a_cell_that_is_pointed_at_says_its_name_and_label(browser, path):
    browser.open(path / "grid.html")
    tip = "document.querySelector('.tip')"
    for i, label in ((0, HOSTILE), (70, "B"), (119, "NK")):
        browser.move(*place(browser, i))
        browser.wait_for(f"!{tip}.hidden")
        assert browser.ask(f"{tip}.textContent") == f"cell<{i}> · kind: {label}"
    x, y = place(browser, 119)
    browser.move(x - 25, y + 25)
    browser.wait_for(f"{tip}.hidden")
    # what is switched off is not found
    click(browser, ".legend input[data-code='2']")
    browser.move(*place(browser, 119))
    browser.ask("new Promise((done) => setTimeout(done, 50))")
    assert browser.ask(f"{tip}.hidden")


def test_arrow_keys_go_from_cell_to_cell(browser, path):
    browser.open(path / "grid.html")
    browser.ask("document.querySelector('canvas').focus()")
    browser.press("ArrowRight")
    assert said(browser) == f"cell<0> · kind: {HOSTILE}"
    browser.press("ArrowUp")
    assert said(browser) == f"cell<1> · kind: {HOSTILE}"
    click(browser, ".legend input[data-code='0']")  # those below 60 are gone
    browser.ask("document.querySelector('canvas').focus()")
    browser.press("ArrowUp")
    assert said(browser) == "cell<60> · kind: B"
    browser.press("Escape")
    assert browser.ask("document.querySelector('.tip').hidden")


def test_a_cell_is_found_by_name(browser, path):
    browser.open(path / "grid.html")
    answers = {
        "cell<71>": "cell<71> · kind: B",
        "l<11": f"cell<11> · kind: {HOSTILE}",
        "?": "No cell here is named ?",
    }
    for typed, answer in answers.items():
        browser.ask(f"document.querySelector('input[type=search]').value = {json.dumps(typed)}")
        click(browser, "button[type=submit]")
        assert said(browser) == answer
    assert browser.ask("location.search") == ""


def test_numbers_have_a_ramp_and_all_cells(browser, path):
    browser.open(path / "grid.html")
    options = browser.ask("[...document.querySelector('select').options].map((o) => o.textContent)")
    assert options == ["kind", "age", "1"]
    browser.ask("""(() => {
        const select = document.querySelector("select");
        select.value = "1";
        select.dispatchEvent(new Event("change"));
    })()""")
    assert shown(browser) == N
    ends = browser.ask("[...document.querySelectorAll('.legend .ends span')].map((e) => e.textContent)")
    assert ends == ["20", "", "80"]
    assert browser.ask("document.querySelector('button[data-turn=on]').hidden")
    browser.move(*place(browser, 119))
    browser.wait_for("!document.querySelector('.tip').hidden")
    assert browser.ask("document.querySelector('.tip').textContent") == "cell<119> · age: 80 · kind: NK"
    assert browser.complaints == []


def test_all_controls_are_reached_by_the_tab_key(browser, path):
    browser.open(path / "grid.html")
    reached = []
    for _ in range(40):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.send("Input.dispatchKeyEvent", type="keyUp", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(browser.ask("document.activeElement.tagName + (document.activeElement.type || '')"))
    for kind in (
        "SELECTselect-one",
        "INPUTsearch",
        "BUTTONsubmit",
        "BUTTONbutton",
        "CANVAS",
        "INPUTcheckbox",
    ):
        assert kind in reached, kind
