"""The documentation names everything that is public, and nothing else."""

import re
from importlib import import_module
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
ROOMS = ["datasets", "metrics", "model", "pl", "pp", "testing", "tl"]


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
        assert (getattr(module, name).__doc__ or "").strip(), f"lc.{room}.{name} has no docstring"


def test_every_model_has_a_page():
    model = import_module("latentcell.model")
    classes = [name for name in listed("model") if hasattr(getattr(model, name), "setup_anndata")]
    assert {"VAE", "PCAGaussian"} <= set(classes)
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "models").glob("*.md"))
    assert [name for name in classes if f"{{class}}`latentcell.model.{name}`" not in pages] == []


def test_pages_link_to_pages_that_exist():
    for page in (page for page in DOCS.rglob("*.md") if not {"_build", "generated"} & set(page.parts)):
        for target in re.findall(r"\]\(([\w./-]+\.md)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).is_file(), f"{page.name} links to {target}"


PAGES = [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_what_there_is(page):
    """``lc.room.name``, in text and in code; a name after a model class is its method."""
    text = page.read_text(encoding="utf-8")
    for room, name, member in sorted(set(re.findall(r"\blc\.([a-z]+)\.(\w+)(?:\.(\w+))?", text))):
        found = getattr(import_module(f"latentcell.{room}"), name, None)
        assert found is not None, f"{page.name}: there is no lc.{room}.{name}"
        assert not member or hasattr(found, member), f"{page.name}: there is no lc.{room}.{name}.{member}"
