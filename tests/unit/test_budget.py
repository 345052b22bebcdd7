"""The size budget: small functions and small modules, counted on the syntax tree."""

import ast
import io
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_FUNCTION_LINES = 40
MAX_BRANCHES = 10
MAX_PARAMETERS = 5
MAX_MODULE_LINES = 400

BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.match_case,
)
NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _sources() -> list[Path]:
    packages = [
        path for name in ("laminator", "enclave_sim") for path in (ROOT / name).rglob("*.py")
    ]
    others = [
        path
        for name in ("scripts", "benchmarks")
        for path in (ROOT / name).iterdir()
        if path.is_file() and (path.suffix == ".py" or b"python" in path.read_bytes()[:40])
    ]
    return sorted(packages + others)


def _code_lines(text: str) -> set[int]:
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def _docstring_lines(function: Function) -> set[int]:
    if ast.get_docstring(function) is None:
        return set()
    first = function.body[0]
    return set(range(first.lineno, (first.end_lineno or first.lineno) + 1))


def _parameters(function: Function) -> int:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([name for name in names if name not in {"self", "cls"}])


def over_budget(text: str) -> list[str]:
    """Return one line for each function of a module that is larger than allowed."""
    code = _code_lines(text)
    found = []
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, Function):
            continue
        own = set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        lines = len((own & code) - _docstring_lines(node))
        branches = sum(isinstance(child, BRANCHES) for child in ast.walk(node))
        for count, limit, what in (
            (lines, MAX_FUNCTION_LINES, "code lines"),
            (branches, MAX_BRANCHES, "branches"),
            (_parameters(node), MAX_PARAMETERS, "parameters"),
        ):
            if count > limit:
                found.append(f"{node.name}: {count} {what}, {limit} allowed")
    return found


@pytest.mark.parametrize("path", _sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_within_budget(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert over_budget(text) == []
    assert len(text.splitlines()) <= MAX_MODULE_LINES


@pytest.mark.parametrize("folder", ["tests", "examples"])
def test_functions_beside_the_packages_within_budget(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): over
        for path in sorted((ROOT / folder).rglob("*.py"))
        if (over := over_budget(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_counts_what_it_should() -> None:
    body = "\n".join(f"    x = {i}  # note\n\n    # note" for i in range(41))
    long = f'def f():\n    """Say.\n\n    More.\n    """\n{body}\n'
    assert over_budget(long) == ["f: 42 code lines, 40 allowed"]
    branchy = "def f(x):\n" + "    if x: pass\n" * 11
    assert over_budget(branchy) == ["f: 11 branches, 10 allowed"]
    assert over_budget("def f(self, a, b, c, d, *, e): ...") == []
    assert over_budget("def f(a, b, c, d, e, *, g): ...") == ["f: 6 parameters, 5 allowed"]
