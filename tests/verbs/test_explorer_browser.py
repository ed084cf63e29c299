"""The explorer's page in a real browser: drawn on, moved, read, by pointer, finger and keys."""

import re

import browser
import numpy as np
import pytest
import wings

from parity import data, reference, saved
from parity.explorer import page
from parity.predict.fit import prepare

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.PATH is None, reason="Chromium is not installed"),
]

READY, EXAMINED = "document.body?.dataset.ready", "document.body.dataset.examined"
FRAME = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
LENGTHS = "[...document.querySelectorAll('#lengths output')].map((each) => each.textContent)"


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("explorer") / "page.html"
    path.write_bytes(page.build(saved.find("small-mnist")))
    return path.as_uri()


def text(chromium: browser.Browser, element: str) -> str:
    return chromium.run(f"document.querySelector('{element}').textContent")


def stroke(chromium: browser.Browser, points: list[tuple[float, float]], touch=False) -> None:
    """Draws through points of the field, shares of its sides, and waits until that is seen."""
    field = "document.querySelector('#field')"
    chromium.run(f"{field}.scrollIntoView({{block: 'center'}})")
    chromium.run(f"{field}.addEventListener('pointerup', () => {{ window.lifted = true; }})")
    at = chromium.run(f"JSON.parse(JSON.stringify({field}.getBoundingClientRect()))")
    places = [(at["x"] + x * at["width"], at["y"] + y * at["height"]) for x, y in points]
    (chromium.swipe if touch else chromium.drag)(places)
    chromium.wait("window.lifted")
    chromium.run(FRAME)


ZERO = [(0.5 + 0.2 * np.sin(a), 0.5 - 0.3 * np.cos(a)) for a in np.linspace(0, 2 * np.pi, 25)]


@pytest.mark.parametrize("touch", [False, True], ids=["pointer", "finger"])
def test_a_drawn_digit_is_answered_as_predict_does(touch, url, tmp_path):
    from PIL import Image

    width = 390 if touch else 1280
    with browser.Browser(width, 844, touch=touch) as chromium:
        chromium.open(url, READY)
        stroke(chromium, ZERO, touch)
        assert text(chromium, "#answer") == "It says 0"
        drawing = chromium.run("Array.from(explorer.drawing.data)")
        Image.fromarray(np.array(drawing, np.uint8).reshape(280, 280)).save(tmp_path / "drawn.png")
        known = saved.find("small-mnist")
        image = prepare(tmp_path / "drawn.png", known.spec.image, "digit")
        lengths = reference.lengths(reference.encode(known.spec, known.arrays, image[None]))[0]
        shown = np.array(chromium.run(LENGTHS), float)
        assert np.abs(shown - lengths).max() < 0.00051  # they are shown with three digits
        assert chromium.run("document.documentElement.scrollWidth <= innerWidth")
        assert chromium.faults == []
        assert chromium.requests == [url]


def test_it_finds_every_test_image_that_the_network_gets_wrong(url):
    known, test = saved.find("small-mnist"), data.load("mnist-mini").test
    answers = [
        reference.lengths(reference.encode(known.spec, known.arrays, images / 255.0)).argmax(1)
        for images in np.array_split(test.images, 20)
    ]
    wrong = np.flatnonzero(np.concatenate(answers) != test.labels).tolist()
    with browser.Browser() as chromium:
        chromium.open(url, f"{READY} && {EXAMINED}")
        assert text(chromium, "#progress") == f"{len(wrong)} wrong of all 1,000"
        places = "[...document.querySelectorAll('#grid button')].map((each) => +each.dataset.at)"
        assert chromium.run(places) == wrong
        assert chromium.faults == []


def test_sliders_move_the_picture_and_reset_brings_it_back(url):
    picture = "document.querySelector('#drawn').toDataURL()"
    with browser.Browser() as chromium:
        chromium.open(url, READY)
        before, length = chromium.run(picture), text(chromium, "#tweaked")
        chromium.run("document.querySelector('#sliders input').focus()")
        for _ in range(30):
            chromium.press("ArrowRight")
        assert chromium.run("+document.querySelector('#sliders output').textContent") > -0.2
        assert chromium.run(picture) != before
        assert text(chromium, "#tweaked") != length
        chromium.run("document.querySelector('#reset').click()")
        assert (chromium.run(picture), text(chromium, "#tweaked")) == (before, length)
        assert chromium.faults == []


def test_everything_can_be_done_by_keys(url):
    focus = "document.activeElement.id || document.activeElement.parentElement.id"
    with browser.Browser() as chromium:
        chromium.open(url, f"{READY} && document.querySelectorAll('#grid button').length > 1")
        chromium.press("Tab")
        assert chromium.run(focus) == "field"
        # The pen shows over the test image that the page opens with.
        colours = "document.activeElement.toDataURL()"
        before = chromium.run(colours)
        chromium.press("ArrowUp")
        chromium.run(FRAME)
        assert chromium.run(colours) != before
        chromium.press("Escape")
        chromium.run(FRAME)
        assert text(chromium, "#state").startswith("Blank")
        assert set(chromium.run(LENGTHS)) == {"\N{EN DASH}"}
        for key in ("ArrowUp",) * 5 + ("ArrowDown",) * 12:  # without Shift the first only move
            chromium.press(key, shift=key == "ArrowDown")
        chromium.run(FRAME)
        assert text(chromium, "#answer") == "It says 1"
        # A class is chosen by the arrow keys, as radio buttons are.
        chromium.run("document.querySelector('#lengths :checked').focus()")
        chromium.press("ArrowDown")
        assert text(chromium, "#pose-title") == "Pose of 2"
        # One test image is reached by Tab, the next by an arrow, and picked by Enter.
        chromium.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
        chromium.press("ArrowRight")
        chromium.press("Enter")
        at = chromium.run("document.activeElement.dataset.at")
        assert text(chromium, "#state").startswith(f"Test image {int(at) + 1}.")
        assert chromium.run("document.querySelector('[aria-pressed=true]').dataset.at") == at
        assert re.fullmatch(r"It says \d, but it is \d", text(chromium, "#answer"))
        assert chromium.faults == []


def test_a_full_field_says_so(url):
    sides = (0.02, 0.98)
    rows = [
        (x, y) for n, y in enumerate(np.linspace(*sides, 30)) for x in sides[:: 1 - 2 * (n % 2)]
    ]
    with browser.Browser() as chromium:
        chromium.open(url, READY)
        stroke(chromium, rows)
        assert text(chromium, "#state").startswith("Full")
        assert text(chromium, "#answer").startswith("No answer")
        chromium.run("document.querySelector('#clear').click()")
        chromium.run(FRAME)
        assert text(chromium, "#state").startswith("Blank")
        assert chromium.faults == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_stand_out_from_their_ground_in_both_schemes(dark, url):
    """Contrast of 4.5 and more, as WCAG 2 asks of text (AA)."""
    names = ["--paper", "--page", "--shade", "--ink", "--grey", "--warm", "--cool"]
    with browser.Browser(dark=dark) as chromium:
        chromium.open(url, READY)
        levels = []
        for name in names:
            rgb = np.array(chromium.run(f"colour('{name}')")) / 255
            linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
            levels.append(float(linear @ [0.2126, 0.7152, 0.0722]))
        assert (levels[0] < 0.1) == dark
        for ground in levels[:3]:
            for ink in levels[3:]:
                light, low = max(ground, ink), min(ground, ink)
                assert (light + 0.05) / (low + 0.05) >= 4.5


def test_without_scripts_it_says_that_it_needs_them(url):
    with browser.Browser() as chromium:
        chromium("Emulation.setScriptExecutionDisabled", value=True)
        chromium("Page.navigate", url=url)
        while not any(each.get("method") == "Page.loadEventFired" for each in chromium.events):
            chromium("Browser.getVersion")  # events are read with an answer
        root = chromium("DOM.getDocument")["root"]["nodeId"]
        number = chromium("DOM.querySelector", nodeId=root, selector="noscript")["nodeId"]
        html = chromium("DOM.getOuterHTML", nodeId=number)["outerHTML"]
        assert "needs JavaScript" in html


@pytest.mark.skipif(len(wings.NAMES) < 2, reason="needs both wings")
def test_served_it_shows_both_wings_beside_it(tmp_path):
    from test_explorer import served

    with served() as (address, _), browser.Browser() as chromium:
        chromium.open(address, f"{READY} && document.body.dataset.compared")
        heads = "[...document.querySelectorAll('thead th')].map((each) => each.textContent)"
        assert chromium.run(heads) == ["class", "PyTorch", "JAX", "this page"]
        apart = "[...document.querySelectorAll('tfoot td')].map((each) => +each.textContent)"
        assert len(chromium.run(apart)) == 3
        assert max(chromium.run(apart)) < 1e-5
        assert chromium.faults == []
        assert set(chromium.requests) == {address, f"{address}poses"}
