"""What a `class_path` in a sweep file names, found out by reading source text, not by importing it.

`plan` has to answer in well under a second and importing torch alone takes ten, so classes are
looked up in the syntax tree of their files. What the text cannot tell (a base class that lives in a
compiled module, a constructor built at run time) is accepted here and reported by Python itself when
the cell is built.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

MAX_BASES = 20  # a chain of base classes longer than this is a loop


@dataclass(frozen=True)
class Argument:
    """One constructor argument as its source text declares it.

    Attributes:
        name: Name of the argument.
        required: True if there is no default.
        choices: The values of a `Literal[...]` annotation, else empty.
        kind: `int`, `float`, `bool` or `str` for such an annotation, else empty.
    """

    name: str
    required: bool
    choices: tuple[Any, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Signature:
    """The constructor of a class.

    Attributes:
        arguments: The named arguments, without `self`.
        open: True if further names may be accepted that the source text does not show.
    """

    arguments: dict[str, Argument] = field(default_factory=dict)
    open: bool = False


class UnknownClassError(Exception):
    """A class path that names nothing; the message tells what is missing, `near` what may be meant."""

    def __init__(self, message: str, near: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.near = near


def near_matches(word: str, known: list[str]) -> tuple[str, ...]:
    """Give the few known names that `word` may be a misspelling of."""
    return tuple(difflib.get_close_matches(word, known, n=3, cutoff=0.6))


@lru_cache(maxsize=1024)
def signature(class_path: str) -> Signature:
    """Read the constructor of a class from its source.

    Args:
        class_path: `package.module.Class`.

    Returns:
        Its arguments, those of its base classes included where it passes `**kwargs` on.

    Raises:
        UnknownClassError: If the package, the module or the class does not exist.
    """
    module, _, name = class_path.rpartition(".")
    if not module or not all(part.isidentifier() for part in class_path.split(".")):
        raise UnknownClassError(f"{class_path!r} is not of the form package.module.Class")
    return _class_signature(_module_file(module), name, class_path, 0)


@lru_cache(maxsize=1024)
def _module_file(module: str) -> Path | None:
    """Find a module's source file without importing its packages; None if it is compiled."""
    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise UnknownClassError(f"no package {top!r}", near_matches(top, ["models", "datamodules"]))
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for root in spec.submodule_search_locations or ():
        path = Path(root).joinpath(*rest)
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
        if any(path.parent.glob(f"{path.name}.*.so")):
            return None
    raise UnknownClassError(
        f"no module {module!r}", _near_modules(spec.submodule_search_locations or (), module)
    )


def _near_modules(roots: Any, module: str) -> tuple[str, ...]:
    top = module.split(".")[0]
    known = [
        ".".join((top, *path.relative_to(root).with_suffix("").parts))
        for root in roots
        for path in Path(root).glob("**/*.py")
        if path.name != "__init__.py"
    ]
    return near_matches(module, known)


@lru_cache(maxsize=256)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=path.name)


def _class_signature(path: Path | None, name: str, class_path: str, depth: int) -> Signature:
    if path is None or depth > MAX_BASES:
        return Signature(open=True)
    tree = _tree(path)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name in classes:
        return _signature_of(classes[name], tree, path, class_path, depth)
    imported = _imports(tree, class_path.rpartition(".")[0], path).get(name)
    if imported is not None:
        module, _, original = imported.rpartition(".")
        return _class_signature(_module_file(module), original, imported, depth + 1)
    if any(
        isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef) and _defines(node, name)
        for node in tree.body
    ):
        return Signature(open=True)
    module = class_path.rpartition(".")[0]
    near = near_matches(name, list(classes))
    raise UnknownClassError(f"no class {name!r} in {module}", tuple(f"{module}.{match}" for match in near))


def _defines(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _imports(tree: ast.Module, module: str, path: Path) -> dict[str, str]:
    """Map the names a module imports to their full dotted names."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names.update({alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            names.update(
                {
                    alias.asname or alias.name.split(".")[0]: (alias.asname and alias.name)
                    or alias.name.split(".")[0]
                    for alias in node.names
                }
            )
    return names


def _signature_of(node: ast.ClassDef, tree: ast.Module, path: Path, class_path: str, depth: int) -> Signature:
    init = next(
        (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
    )
    if init is None:
        if _is_dataclass(node):
            return _dataclass_signature(node, tree, class_path.rpartition(".")[0], path)
        return _base_signature(node, tree, path, class_path, depth)
    own = _arguments(init, tree, class_path.rpartition(".")[0], path)
    if init.args.kwarg is None:
        return Signature(own)
    base = _base_signature(node, tree, path, class_path, depth)
    return Signature({**base.arguments, **own}, open=base.open)


def _is_dataclass(node: ast.ClassDef) -> bool:
    names = [ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list]
    return any(name.rpartition(".")[2] == "dataclass" for name in names)


def _dataclass_signature(node: ast.ClassDef, tree: ast.Module, module: str, path: Path) -> Signature:
    arguments = [
        _argument(item.target.id, item.annotation, item.value is None, tree, module, path)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]
    return Signature({argument.name: argument for argument in arguments}, open=bool(node.bases))


def _base_signature(
    node: ast.ClassDef, tree: ast.Module, path: Path, class_path: str, depth: int
) -> Signature:
    """Read the constructor that a class inherits from its first base."""
    if not node.bases:
        return Signature()
    module = class_path.rpartition(".")[0]
    dotted = ast.unparse(node.bases[0])
    first, _, rest = dotted.partition(".")
    local = {item.name for item in tree.body if isinstance(item, ast.ClassDef)}
    full = (
        f"{module}.{dotted}"
        if dotted in local
        else _imports(tree, module, path).get(first, first) + (f".{rest}" if rest else "")
    )
    base_module, _, name = full.rpartition(".")
    try:
        base_file = path if dotted in local else _module_file(base_module)
        return _class_signature(base_file, name, full, depth + 1)
    except (UnknownClassError, OSError, SyntaxError):
        return Signature(open=True)


def _arguments(init: ast.FunctionDef, tree: ast.Module, module: str, path: Path) -> dict[str, Argument]:
    positional = [*init.args.posonlyargs, *init.args.args]
    n_required = len(positional) - len(init.args.defaults)
    found = [
        _argument(arg.arg, arg.annotation, index < n_required, tree, module, path)
        for index, arg in enumerate(positional)
    ][1:]
    pairs = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    found += [
        _argument(arg.arg, arg.annotation, default is None, tree, module, path) for arg, default in pairs
    ]
    return {argument.name: argument for argument in found}


def _argument(
    name: str, annotation: ast.expr | None, required: bool, tree: ast.Module, module: str, path: Path
) -> Argument:
    text = ast.unparse(annotation) if annotation is not None else ""
    if text in {"int", "float", "bool", "str"}:
        return Argument(name, required, kind=text)
    return Argument(name, required, choices=_literal_choices(annotation, tree, module, path))


def _literal_choices(
    annotation: ast.expr | None, tree: ast.Module, module: str, path: Path
) -> tuple[Any, ...]:
    """Give the values of `Literal[...]`, also behind a module-level alias."""
    if isinstance(annotation, ast.Name):
        annotation = _alias(annotation.id, tree, module, path)
    if (
        not isinstance(annotation, ast.Subscript)
        or ast.unparse(annotation.value).rpartition(".")[2] != "Literal"
    ):
        return ()
    items = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    return tuple(item.value for item in items if isinstance(item, ast.Constant))


def _alias(name: str, tree: ast.Module, module: str, path: Path, depth: int = 0) -> ast.expr | None:
    """Find what a module-level name stands for, also where it is imported from another module."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and _defines(node, name):
            return node.value
    origin, _, original = _imports(tree, module, path).get(name, "").rpartition(".")
    if not origin or depth > MAX_BASES:
        return None
    try:
        file = _module_file(origin)
        return None if file is None else _alias(original, _tree(file), origin, file, depth + 1)
    except (UnknownClassError, OSError, SyntaxError):
        return None
