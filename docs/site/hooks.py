"""Hooks of MkDocs: files of the checkout that lie outside of docs/ and that its pages link to become part of the site.

Pages link to ``../benchmarks/results/NAME``, as a forge wants it. In the site the folder ``benchmarks`` lies beside the
pages, so one ``../`` goes.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
RESULTS = "benchmarks/results"
_UPWARD = re.compile(rf"\]\(\.\./((?:\.\./)*(?:{RESULTS}/|LICENSE|{'|'.join(map(re.escape, PAGES))}))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the results of the benchmarks, the licence, the pages of the top level and the style sheet."""
    results = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / RESULTS).iterdir()) if path.is_file()]
    for name in (*PAGES, "LICENSE", *results):
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    files.append(File.generated(config, "wide.css", abs_src_path=str(Path(__file__).with_name("wide.css"))))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Makes links that leave docs/ on a forge stay inside of the site."""
    if page.file.src_uri in PAGES:
        return markdown.replace("](docs/", "](")
    return _UPWARD.sub(r"](\1", markdown)
