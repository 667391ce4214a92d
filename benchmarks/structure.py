"""Count what a reader has to hold in mind: lines, modules, floors, circles.

    python benchmarks/structure.py                # the working tree
    python benchmarks/structure.py --commit HEAD~9

A module stands one floor above the highest of those that it imports. An import from a
package counts as one of the module that defines the name; imports inside functions
count too. A circle is a set of modules that import one another.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import tarfile
from collections import defaultdict
from pathlib import Path

PACKAGES = ("keras_makeavid", "weights_tools")


def main() -> None:
    """Print a row for each room, and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commit", help="a commit instead of the working tree")
    modules = _modules(parser.parse_args().commit)
    imports = {name: _imports(name, modules) for name in modules}
    floors, circles = _floors(imports)

    rooms = defaultdict(list)
    for name in modules:
        parts = name.split(".")
        room = ".".join(parts[:2]) if parts[0] == PACKAGES[0] else parts[0]
        rooms[room].append(name)
        rooms["all"].append(name)
    print(f"{'room':36}{'lines':>7}{'files':>7}{'modules':>9}{'floors':>8}")
    for room, names in sorted(rooms.items(), key=lambda pair: pair[0] == "all"):
        inside = {name: imports[name] & set(names) for name in names}
        lines = sum(modules[name][1].count("\n") for name in names)
        plain = sum(not modules[name][0].endswith("__init__.py") for name in names)
        height = max(_floors(inside)[0].values())
        print(f"{room:36}{lines:7}{len(names):7}{plain:9}{height:8}")
    importers = defaultdict(set)
    for name, imported in imports.items():
        for other in imported:
            importers[other].add(name)
    alone = [
        name
        for name, those in importers.items()
        if len(those) == 1 and not modules[name][0].endswith("__init__.py")
    ]
    print(f"modules that one other imports: {len(alone)}")
    print(f"floors of all: {max(floors.values())}")
    print(f"circles: {len(circles)}")
    for circle in circles:
        print("  " + ", ".join(sorted(circle)))


def _modules(commit):
    """Path and text of each module by its dotted name."""
    if commit is None:
        texts = {
            str(path): path.read_text(encoding="utf-8")
            for package in PACKAGES
            for path in Path(package).rglob("*.py")
        }
    else:
        tar = subprocess.run(
            ["git", "archive", commit, *PACKAGES], capture_output=True, check=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            texts = {
                member.name: archive.extractfile(member).read().decode("utf-8")
                for member in archive
                if member.name.endswith(".py")
            }
    return {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): (
            path,
            text,
        )
        for path, text in sorted(texts.items())
    }


def _imports(name, modules):
    """The modules of these packages that a module imports."""
    found = set()
    for module, names in _statements(name, modules):
        for imported in names or [None]:
            found.add(_definer(module, imported, modules))
    return {other for other in found if other and other != name}


def _statements(name, modules):
    """Pairs of a module that is imported and the names that are taken from it."""
    for node in ast.walk(ast.parse(modules[name][1])):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []


def _definer(module, imported, modules, seen=()):
    """The module that defines a name which is imported from `module`."""
    if module not in modules:
        return None
    if imported is None:
        return module
    if f"{module}.{imported}" in modules:
        return f"{module}.{imported}"
    if modules[module][0].endswith("__init__.py") and module not in seen:
        for other, names in _statements(module, modules):
            if imported in names:
                return _definer(other, imported, modules, (*seen, module)) or module
    return module


def _floors(imports):
    """The floor of each module, and the circles."""
    order, low, stack, index = {}, {}, [], 0
    component = {}

    def visit(name):
        nonlocal index
        order[name] = low[name] = index = index + 1
        stack.append(name)
        for other in sorted(imports[name]):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            members = set()
            while name not in members:
                members.add(stack.pop())
            component.update(dict.fromkeys(members, frozenset(members)))

    for name in sorted(imports):
        if name not in order:
            visit(name)

    floors = {}

    def floor(name):
        if name not in floors:
            circle = component[name]
            below = set().union(*(imports[member] for member in circle)) - circle
            height = 1 + max((floor(other) for other in below), default=0)
            floors.update(dict.fromkeys(circle, height))
        return floors[name]

    for name in imports:
        floor(name)
    return floors, sorted({c for c in component.values() if len(c) > 1}, key=sorted)


if __name__ == "__main__":
    main()
