"""What may import what, read from the source: data flows one way, and nothing private leaves its module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
APPLICATIONS = {"app", "batch", "bench", "cli", "paper"}
BASE = {"config", "errors", "types"}
# what the modules of a package may import besides its own and the root's
ALLOWED = {
    "config": set(),
    "errors": set(),
    "types": set(),
    "kernels": set(),
    "functional": {"kernels"},
    "nn": {"functional"},
    "data": set(),
    "flow": {"data", "functional"},
    "features": {"data", "flow", "functional"},
    "metrics": {"functional", "flow"},
    "pipeline": {"features", "flow", "functional", "nn"},
    "interactive": {"functional", "kernels", "pipeline"},
    "viz": {"data", "functional"},
    "training": {"data", "features", "flow", "functional", "metrics", "viz"},
}


def sources() -> Iterator[tuple[str, Path]]:
    """Module names and files of the package."""
    for folder, prefix in ((ROOT / "gpuvos", "gpuvos"), (ROOT / "kernels", "gpuvos.kernels")):
        for file in sorted(folder.rglob("*.py")):
            yield ".".join((prefix, *file.relative_to(folder).with_suffix("").parts)), file


@cache
def parsed(file: Path) -> ast.Module:
    """The source of a file as a tree."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Modules that a file imports, the names it takes out of them, and whether that is for type checkers alone."""
    tree = parsed(file)
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, tuple(alias.name for alias in node.names), id(node) in typing
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, (), id(node) in typing


def package(module: str) -> str:
    """The part of ``gpuvos.part.module``; "" for the package itself."""
    return module.split(".")[1] if "." in module else ""


def targets(module: str, names: tuple[str, ...]) -> set[str]:
    """Parts of the package that an import reaches; ``from gpuvos import functional`` reaches functional."""
    if module != "gpuvos":
        return {package(module)}
    parts = {path.stem for path in (ROOT / "gpuvos").iterdir()} | {"kernels"}
    return {name if name in parts else "" for name in names} or {""}


def test_the_root_is_small() -> None:
    assert len(list((ROOT / "gpuvos").glob("*.py"))) <= 6


def test_imports_go_one_way() -> None:
    found = {module: wrong for module, file in sources() if (wrong := list(wrong_imports(module, file)))}
    assert not found


def wrong_imports(module: str, file: Path) -> Iterator[str]:
    """What a module must not import, with the reason."""
    here = package(module)
    for imported, names, typing in imports(file):
        if imported.split(".")[0] != "gpuvos":
            continue
        private = [name for name in (*imported.split("."), *names) if name.startswith("_") and name != "__version__"]
        inside = imported.rpartition(".")[0] == module.rpartition(".")[0] or imported == "gpuvos.kernels._register"
        if private and (not inside or [n for n in names if n.startswith("_")]):
            yield f"{imported}: {private} is private"
        if here in APPLICATIONS or here in ("__init__", "__main__") or typing:
            continue
        allowed = ALLOWED[here] | BASE | {here}
        reached = targets(imported, names)
        if not reached <= allowed:
            yield f"imports {sorted(reached - allowed)}"


def test_a_rule_is_chosen_by_its_object_alone() -> None:
    for module, file in sources():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.Compare) and module != "gpuvos.config":
                assert not ast.unparse(node.left).endswith("config.rule"), f"{module}:{node.lineno}"


def test_the_check_sees_what_it_forbids(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    lines = [
        "from gpuvos.cli.main import _run",
        "if TYPE_CHECKING:",
        "    from gpuvos import viz",
        "import gpuvos.data.video",
    ]
    file.write_text("\n".join(lines))
    assert sorted(imports(file)) == [
        ("gpuvos", ("viz",), True),
        ("gpuvos.cli.main", ("_run",), False),
        ("gpuvos.data.video", (), False),
    ]
    assert targets("gpuvos", ("viz", "Config")) == {"viz", ""}
    assert list(wrong_imports("gpuvos.viz.maps", file)) == [
        "gpuvos.cli.main: ['_run'] is private",
        "imports ['cli']",
    ]
    assert list(wrong_imports("gpuvos.metrics.region", file))[-1] == "imports ['data']"
