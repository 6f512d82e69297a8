"""The site: links lead somewhere, pages stand in its navigation, the public names in its reference."""

import importlib
import re
from pathlib import Path

import pytest
import yaml

import sightread

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").glob("**/*.md"))
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def links():
    """(page, file, heading) of every link to a place of ours."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]:
        text = re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))
        yield from ((page, file, heading) for file, heading in LINK.findall(text))


def anchors(page):
    """What the headings of a page are linked by."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize(("page", "file", "heading"), links(), ids=lambda part: str(getattr(part, "name", part)))
def test_links_lead_somewhere(page, file, heading):
    target = (page.parent / file).resolve() if file else page
    assert target.is_file()
    assert not heading or heading in anchors(target)


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_links_of_pages_stay_in_the_site(page):
    assert all((page.parent / file).resolve().is_relative_to(ROOT / "docs") for p, file, _ in links() if p == page)


def nav(entries):
    """The pages of a navigation, in order."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else nav(value)


def test_every_page_stands_once_in_the_navigation():
    assert sorted(nav(SITE["nav"])) == sorted(page.relative_to(ROOT / "docs").as_posix() for page in DOCS)


def test_the_site_asks_nothing_of_others():
    assert SITE["theme"]["font"] is False
    assert not {"analytics", "consent"} & set(SITE.get("extra", {}))
    assert not {"extra_css", "extra_javascript", "repo_url", "site_url"} & set(SITE)


def plain(text):
    """A text in one line, without emphasis."""
    return re.sub(r"\s+", " ", text.replace("**", ""))


TOLD = [page for page in DOCS if page.name not in ("results.md", "architecture.md")]


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_what_is_quoted_was_said(page):
    measured, prose = plain((ROOT / "docs" / "results.md").read_text()), plain(FENCE.sub("", page.read_text()))
    assert [quote for quote in re.findall(r'"([^"`]{30,})"', prose) if quote not in measured] == []


REFERENCE = (ROOT / "docs" / "api.md").read_text()


@pytest.mark.parametrize("name", re.findall(r"^::: (\S+)", REFERENCE, re.MULTILINE))
def test_the_reference_names_what_there_is(name):
    module, _, member = name.rpartition(".")
    found = getattr(importlib.import_module(module), member, None) or importlib.import_module(name)
    members = re.search(rf"^::: {re.escape(name)}\n +options: {{members: \[(.+)\]}}", REFERENCE, re.MULTILINE)
    assert all(hasattr(found, part) for part in (members[1].split(", ") if members else ()))


def test_the_public_names_stand_in_the_reference():
    public = {getattr(sightread, name) for name in sightread.__all__} - {sightread.__version__}
    named = {f"{value.__module__}.{value.__name__}" for value in public} - {"sightread.errors.SightreadError"}
    assert named <= set(re.findall(r"^::: (\S+)", REFERENCE, re.MULTILINE))
    assert "::: sightread.errors\n" in REFERENCE
