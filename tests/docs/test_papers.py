"""What stands twice stands alike: versions, licences, what a release is made of."""

import re
import tomllib

import pytest
import yaml

from .conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# fields of the schema of scverse's list of ecosystem packages
FIELDS = {"name", "description", "project_home", "documentation_home", "tutorials_home", "install", "license"}
FIELDS |= {"tags", "publications", "version", "authors", "test_command"}


def read(path):
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def test_entry_for_the_ecosystem_says_what_the_package_says():
    entry = read(".github/scverse/meta.yaml")
    assert set(entry) <= FIELDS
    # what the schema requires, without what depends on where the repository is published
    assert {"name", "description", "install", "license", "tags", "version"} <= set(entry)
    texts = [value for key, value in entry.items() if key not in ("install", "tags")]
    assert all(isinstance(value, str) and value == value.strip() != "" for value in texts)
    assert all(isinstance(tag, str) for tag in entry["tags"])
    assert entry["name"] == PROJECT["name"]
    assert entry["description"].count(".") <= 2, "one or two sentences"
    assert entry["version"] == PROJECT["version"]
    assert entry["license"] == PROJECT["license"]
    assert entry["install"] == {"pypi": PROJECT["name"]}
    assert len(entry["tags"]) == len(set(entry["tags"]))


def test_citation_has_the_version_and_licence():
    entry = read("CITATION.cff")
    assert (entry["version"], entry["license"]) == (PROJECT["version"], PROJECT["license"])


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml")), ids=str)
def test_forms_ask_something_that_must_be_answered(path):
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    assert any(item.get("validations", {}).get("required") for item in form["body"])


def test_only_the_publishing_job_may_publish():
    jobs = read(".github/workflows/release.yaml")["jobs"]
    may = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert may == ["publish"]
    assert jobs["publish"]["needs"] == "build"
    assert not any("run" in step for step in jobs["publish"]["steps"])


def test_readme_is_one_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert re.search(r"!\[[^\]]{40,}\]\(docs/_static/readme.png\)", text), "the picture says what is on it"
