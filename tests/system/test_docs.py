"""README and docs: their Python runs, links and pictures exist, and so do the names in the table of the method."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"))
}
TOP = {name: (ROOT / name).read_text() for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
# pages whose blocks compile, or segment several clips
SLOW = {
    "README.md",
    "docs/development.md",
    "docs/guide/compile-and-export.md",
    "docs/guide/embedding-in-models.md",
    "docs/guide/interactive.md",
    "docs/guide/presets.md",
    "docs/guide/saliency.md",
    "docs/guide/several-objects.md",
    "docs/guide/streaming.md",
    "docs/index.md",
}


def blocks() -> Iterator[object]:
    """The Python of every page, by page and number."""
    for page, text in sorted(PAGES.items()):
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE), 1):
            yield pytest.param(code, id=f"{page}-{number}", marks=[pytest.mark.slow] if page in SLOW else [])


def links(text: str) -> list[str]:
    """Targets of links and pictures, without code."""
    prose = re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


@pytest.mark.parametrize("code", list(blocks()))
def test_python_block_runs(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    if "docs/guide/presets.md" not in request.node.callspec.id:  # which prints the sizes
        request.getfixturevalue("small_saliency")
    exec(compile(code, request.node.callspec.id, "exec"), {})


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    readme = PAGES["README.md"]
    assert len(readme.splitlines()) <= 150
    first, second = re.findall(r"```bash\n(.*?)```", readme, re.DOTALL)[:2]
    assert "gpuvos demo" in first
    assert "pytest" in second
    assert "![" in readme


def test_most_pages_have_code_that_runs() -> None:
    guides = [page for page in PAGES if page.startswith("docs/guide/")]
    assert len(guides) >= 9
    assert len(list(blocks())) >= 15


@pytest.mark.parametrize("page", PAGES)
def test_no_heading_is_there_twice(page: str) -> None:
    text = re.sub(r"^```.*?^```", "", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ .*$", text, re.MULTILINE)
    assert headings
    assert len(set(headings)) == len(headings)
    assert len(re.findall(r"^# .*$", text, re.MULTILINE)) == 1


@pytest.mark.parametrize("page", [*PAGES, *TOP])
def test_relative_links_and_pictures_exist(page: str) -> None:
    for target in links({**PAGES, **TOP}[page]):
        if "://" not in target and not target.startswith("#"):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "docs/site/mkdocs.yml").read_text()
    for page in PAGES:
        assert page == "README.md" or f"- {page.removeprefix('docs/')}\n" in navigation, page


def test_modules_of_the_api_reference_exist() -> None:
    named = [name for text in PAGES.values() for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)]
    assert len(named) > 30
    for name in named:
        importlib.import_module(name if name.startswith("gpuvos") else f"gpuvos.{name}")


def method_rows() -> list[list[str]]:
    """Cells of the table from equation to test."""
    rows = [line for line in PAGES["docs/method.md"].splitlines() if line.count(" | ") == 4]
    return [[cell.strip() for cell in re.split(r" \| ", row.strip("| "))] for row in rows[1:]]


def test_functions_ops_and_tests_of_the_method_exist() -> None:
    rows = method_rows()
    assert len(rows) > 20
    for _, _, functions, ops, tests in rows:
        for name in re.findall(r"`([^`]+)`", functions):
            module, _, function = (
                f"gpuvos.functional.{name}".rpartition(".") if "." not in name else name.rpartition(".")
            )
            assert hasattr(importlib.import_module(module), function), name
        for op in re.findall(r"`([^`]+)`", ops):
            assert (ROOT / "kernels" / op / "reference.py").is_file(), op
        for test in re.findall(r"`([^`]+)`", tests):
            file, _, function = test.partition("::")
            assert f"def {function}(" in (ROOT / file).read_text() if function else (ROOT / file).is_file(), test


def test_every_op_is_in_the_table_of_the_method() -> None:
    named = {op for row in method_rows() for op in re.findall(r"`([^`]+)`", row[3])}
    assert named == {path.parent.name for path in (ROOT / "kernels").glob("*/op.py")}


@pytest.mark.parametrize("number", range(1, 16))
def test_every_equation_is_in_the_table_of_the_method(number: int) -> None:
    found = [re.match(r"Eq\. (\d+)(?:-(\d+))?", row[0]) for row in method_rows()]
    assert any(match and int(match[1]) <= number <= int(match[2] or match[1]) for match in found)
