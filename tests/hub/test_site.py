"""The documentation: its links where it lies and where it is built, and the notebook on it."""

import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import browser
import pytest
import wings
from wings import ROOT

spec = importlib.util.spec_from_file_location("build", ROOT / "docs/build.py")
assert spec is not None
assert spec.loader is not None
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)

PAGES = [ROOT / name for name in build.ABOVE]
PAGES += [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "docs" / build.NOTEBOOK]


def text_of(page: Path) -> str:
    """A page's words; of a notebook those of its cells of text."""
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def prose(text: str) -> str:
    """A page without its code."""
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), text)


def anchors(text: str) -> set[str]:
    """The headings of a page, as hosts of repositories call them."""
    headings = re.findall(r"^#+ +(.+?)\s*$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def faults(page: Path, text: str) -> list[str]:
    """The links of a page that lead to no file, or to no heading of one."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        leads = target.is_file()
        if leads and anchor:
            leads = anchor in anchors(text if target == page else text_of(target))
        if not leads:
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page):
    assert faults(page, text_of(page)) == []


@pytest.mark.parametrize(
    "text",
    ["[a](no.md)", "![a](pictures/no.png)", "[a](data.md#no-such)", "# Here\n[a](#there)"],
)
def test_a_link_to_nothing_is_found(text):
    assert len(faults(ROOT / "docs/training.md", text)) == 1


def test_every_page_is_in_the_navigation_once():
    nav = re.search(r"^nav:\n(.*?)^\S", (ROOT / "mkdocs.yml").read_text(), re.M | re.S)
    assert nav is not None
    listed = re.findall(r": (\S+\.md)$", nav[1], re.M)
    assert sorted(listed) == sorted({*build.pages(), build.TOUR})


def test_links_are_those_of_the_site_where_a_page_has_moved():
    pages = build.pages()
    assert "](training.md)" in pages["index.md"]
    assert "](contributing.md)" in pages["index.md"]
    assert "docs/" not in "".join(re.findall(r"\]\([^)]*\)", pages["index.md"]))
    assert f"]({build.TOUR})" in pages["index.md"]
    assert not [name for name, text in pages.items() if f"{build.NOTEBOOK})" in text]


def test_the_api_has_every_module_of_the_wings_and_names_that_exist():
    listed = [module for _, modules, _ in build.API.values() for module in modules]
    inside = (ROOT / wings.PACKAGES["torch"]).iterdir()
    modules = {
        path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert sorted(listed) == sorted(modules - {"__init__"})
    rooms = [pair for _, _, rooms in build.API.values() for pair in rooms.items()]
    for room, names in rooms:
        module = importlib.import_module(room)
        assert [name for name in names.split() if not hasattr(module, name)] == [], room
        # Griffe would show the module instead.
        folder = ROOT / room.replace(".", "/")
        assert [name for name in names.split() if (folder / f"{name}.py").exists()] == [], room
    routing = build.pages()["api/routing.md"]
    for name in ("torch_caps.routing.dynamic", "jax_caps.lean.dynamic"):
        assert f"::: {name}\n" in routing


def test_the_notebook_is_stored_without_outputs():
    cells = json.loads((ROOT / "docs" / build.NOTEBOOK).read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


class Page(HTMLParser):
    """What a built page asks for, where it leads, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.asks: list[str] = []
        self.leads: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])
        elif tag == "link" or "src" in given:
            asked = given.get("src") or given["href"]
            self.asks += [] if asked.startswith("data:") else [asked]


EXTRA = ("ipykernel", "latex2mathml", "material", "mkdocs", "mkdocstrings", "nbconvert")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built in a copy of what it is made of."""
    if missing := [name for name in EXTRA if importlib.util.find_spec(name) is None]:
        pytest.skip(f"the extra docs is not installed: {', '.join(missing)}")
    if len(wings.NAMES) < len(wings.PACKAGES):
        pytest.skip("the notebook is of both wings")
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "parity", *wings.PACKAGES.values()):
        ignored = shutil.ignore_patterns("__pycache__", "*-explorer.html")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in (*build.ABOVE, "mkdocs.yml"):
        shutil.copy(ROOT / name, folder)
    said = subprocess.run(
        [sys.executable, "docs/build.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert "WARNING" not in said.stdout + said.stderr
    return folder / "site"


@pytest.mark.slow
def test_the_site_is_built_and_leads_nowhere_else(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert {f"{name.removesuffix('.md')}.html" for name in build.pages()} <= {
        path.relative_to(site).as_posix() for path in pages
    }
    broken = []
    for path, page in pages.items():
        inside = [link for link in page.leads if not link.startswith(("https://", "http://"))]
        for link in [*page.asks, *inside]:
            name, _, anchor = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            places = pages[target].places if target in pages else {anchor}
            if not (target.is_file() and anchor in {"", *places}):
                broken.append((path.relative_to(site).as_posix(), link))
    assert broken == []
    assert "<math" in (site / "mathematics.html").read_text()
    api = "".join(path.read_text() for path in sorted((site / "api").glob("*.html")))
    assert re.findall(r'title="[\w.]+,"', api) == []  # "fit, frame: ..." is no name of an argument
    for package in wings.PACKAGES.values():
        assert f'id="{package}.capsules.squash"' in api


@pytest.mark.slow
def test_the_notebook_runs_and_both_networks_agree_in_it(site):
    tour = (site / "tour.html").read_text()
    assert len(re.findall(r'src="tour_files/[^"]+\.png"', tour)) == 2
    assert "tour-explorer.html" in tour
    right = re.search(r"(0\.\d+) of the test images are right", tour)
    apart = re.search(r"apart by at most (\S+) over 100 digits", tour)
    assert right is not None
    assert apart is not None
    assert float(right[1]) > 0.8  # 0.906 as measured; 0.1 by chance
    assert float(apart[1]) < 1e-5  # of lengths below 1, as rung 2 asks


@pytest.mark.slow
@pytest.mark.skipif(browser.PATH is None, reason="no Chromium here")
def test_pages_ask_nobody_for_anything_and_complain_of_nothing(site):
    with browser.Browser() as page:
        for name in ("index", "mathematics", "explorer", "tour", "api/routing"):
            page.open((site / f"{name}.html").as_uri(), "document.readyState == 'complete'")
        assert page.faults == []
        assert [url for url in page.requests if not url.startswith("file:")] == []
