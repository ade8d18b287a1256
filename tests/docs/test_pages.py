"""The documentation names everything that is public, and nothing else."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROOMS = ["datasets", "metrics", "model", "pl", "pp", "testing", "tl"]
MADE_BY_OTHERS = {"LatentJacobian", "ContractError"}  # results of calls that have an example


def listed(room: str) -> list[str]:
    """Names of a room that docs/api.md lists for autosummary."""
    return re.findall(
        rf"^   {room}\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )


@pytest.mark.parametrize("room", ROOMS)
def test_api_page_lists_every_public_name_once(room):
    assert sorted(listed(room)) == sorted(import_module(f"latentcell.{room}").__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_exists_and_is_documented(room):
    module = import_module(f"latentcell.{room}")
    for name in module.__all__:
        public = getattr(module, name)
        assert (public.__doc__ or "").strip(), f"lc.{room}.{name} has no docstring"
        if callable(public) and not name.startswith("check_"):
            assert ">>> " in public.__doc__ or name in MADE_BY_OTHERS, f"lc.{room}.{name} has no example"


def test_every_model_has_a_page():
    model = import_module("latentcell.model")
    classes = [name for name in listed("model") if hasattr(getattr(model, name), "setup_anndata")]
    assert {"VAE", "PCAGaussian"} <= set(classes)
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "models").glob("*.md"))
    assert [name for name in classes if f"{{class}}`latentcell.model.{name}`" not in pages] == []


MADE = {"_build", "generated"}
PAGES = [
    *sorted(page for page in DOCS.rglob("*.md") if not MADE & set(page.relative_to(DOCS).parts)),
    *sorted(DOCS.parent.glob("*.md")),
]
NOTEBOOKS = sorted((DOCS.parent / "tutorials").glob("*.ipynb"))


def text_of(page: Path) -> str:
    """Text of a page or of a notebook's cells of text, without code."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown"]
        return "\n\n".join("".join(cell["source"]) for cell in cells)
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What headings can be linked by: lower case, hyphens for spaces, no other signs, as on GitHub."""
    headings = re.findall(r"^#{1,6} +(.+?) *$", text_of(page), flags=re.MULTILINE)
    plain = [re.sub(r"\]\([^)]*\)|[`*\[]", "", heading).lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


def broken_links(page: Path, text: str) -> list[str]:
    """Links of a text to files and headings of the repository that are not there."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link) or link.startswith("<"):
            continue
        path, _, anchor = link.partition("#")
        target = page if not path else place_of(page, path)
        if not target.exists():
            found.append(f"{link}: no such file")
        elif anchor and target.suffix in {".md", ".ipynb"} and anchor not in anchors(target):
            found.append(f"{link}: {target.name} has no such heading")
    return found


def place_of(page: Path, path: str) -> Path:
    """Where a link leads: pages and notebooks see each other as in the built documentation."""
    folder = DOCS / "tutorials" if page.suffix == ".ipynb" else page.parent
    target = (folder / path).resolve()
    if target.suffix == ".ipynb" and target.parent == DOCS / "tutorials":
        return DOCS.parent / "tutorials" / target.name  # the build copies them
    return target


@pytest.mark.parametrize("page", [*PAGES, *NOTEBOOKS], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    assert broken_links(page, text_of(page)) == []


def test_a_link_that_leads_nowhere_is_found():
    page = DOCS / "index.md"
    text = "[a](metrics.md#measured) [b](no.md) [c](metrics.md#nothing) [d](https://a.org) [e](#latentcell)"
    assert [link.split(":")[0] for link in broken_links(page, text)] == ["no.md", "metrics.md#nothing"]


def test_every_page_is_in_the_table_of_contents():
    listed = {"index"}
    for page in PAGES:
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {str((page.parent / name).relative_to(DOCS)) for name in names}
    pages = {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES if page.is_relative_to(DOCS)}
    assert pages <= listed
    assert {f"tutorials/{path.stem}" for path in NOTEBOOKS} <= listed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_there_is(page):
    """``lc.room.name``, in text and in code; a name after a model class is its method."""
    text = page.read_text(encoding="utf-8")
    for room, name, member in sorted(set(re.findall(r"\blc\.([a-z]+)\.(\w+)(?:\.(\w+))?", text))):
        found = getattr(import_module(f"latentcell.{room}"), name, None)
        assert found is not None, f"{page.name}: there is no lc.{room}.{name}"
        assert not member or hasattr(found, member), f"{page.name}: there is no lc.{room}.{name}.{member}"
