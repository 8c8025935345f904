"""Rules about values of the configuration stand in config/ alone."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "convmae_det"

# By file and function: what depends on data that are loaded or on the command line, and names that are also those of
# arguments.
ELSEWHERE = {
    ("data/detection/catalog.py", "check_classes"),
    ("engine/hooks/evaluation.py", "choose_best_metric"),
    ("engine/launch.py", "_check_processes"),
    ("precision.py", "choose_precision"),
}
GROUPS = "MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST"
ABOUT_A_VALUE = re.compile(rf"(({GROUPS})\.\S*|\{{key\}}|(SEED|VIS_PERIOD|OUTPUT_DIR)) is ")


def sentences(tree: ast.AST, function: str = "") -> Iterator[tuple[str, str]]:
    """The text of every InputError, with what is put into it in braces, and the function where it is raised."""
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
            yield text(node.args[0]), function
        yield from sentences(node, inside)


def text(node: ast.AST) -> str:
    match node:
        case ast.Constant():
            return str(node.value)
        case ast.JoinedStr():
            return "".join(map(text, node.values))
        case ast.BinOp():
            return text(node.left) + text(node.right)
        case ast.FormattedValue():
            return f"{{{ast.unparse(node.value)}}}"
    return "{}"


def rules(path: Path) -> set[str]:
    """The functions of a file that say what a key is."""
    found = sentences(ast.parse(path.read_text(encoding="utf-8")))
    return {function for sentence, function in found if ABOUT_A_VALUE.match(sentence)}


def test_rules_stand_in_config_alone():
    names = {path: path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    found = {(name, function) for path, name in names.items() for function in rules(path)}
    assert {(name, function) for name, function in found if not name.startswith("config/")} == ELSEWHERE


def test_rules_are_found(tmp_path):
    """In each form in which they could be written."""
    lines = [
        'raise InputError("MODEL.X is odd; it must be even")',
        'raise InputError(f"SOLVER.{name} is {value!r}; it must be even")',
        'raise InputError(f"{key} is {value}, but must be even")',
        'raise InputError("TEST.Y is " + str(value) + ", wrong")',
        'raise InputError("the file is wrong")',
    ]
    code = "\n".join(
        f"def f{number}(key, name, value):\n    if key:\n        {line}" for number, line in enumerate(lines)
    )
    (tmp_path / "module.py").write_text(code)
    assert rules(tmp_path / "module.py") == {"f0", "f1", "f2", "f3"}
