"""Blocks of code in pages and docstrings, and what their reader has imported."""

import importlib
import pkgutil
import re
from dataclasses import dataclass

import keras
import numpy as np

import keras_makeavid
import weights_tools

_FENCE = re.compile(r"( *)```(\w*)\n")
_NOT_RUN = re.compile(r" *<!-- not run: (.+) -->\n")


@dataclass
class CodeBlock:
    """A block, the line it begins in, and why it isn't run, if a mark says so."""

    language: str
    code: str
    line: int
    not_run: str | None


def code_blocks(text: str) -> list[CodeBlock]:
    """The fenced blocks of Markdown `text`, those in lists too."""
    blocks, open_block, indent, reason = [], None, "", None
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        fence = _FENCE.fullmatch(line)
        if open_block is not None:
            if line.strip() == "```":
                open_block = None
            else:
                open_block.code += line.removeprefix(indent)
        elif fence:
            indent = fence[1]
            open_block = CodeBlock(fence[2], "", number + 1, reason)
            blocks.append(open_block)
        if line.strip():
            mark = _NOT_RUN.fullmatch(line)
            reason = mark[1] if mark else None
    return blocks


def modules():
    """Every module of both packages."""
    for package in (keras_makeavid, weights_tools):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def public_names() -> dict:
    """What a reader has imported: the members of the packages' public faces."""
    names = {"keras": keras, "np": np, "keras_makeavid": keras_makeavid}
    for package in (weights_tools, *modules()):
        for name in getattr(package, "__all__", ()):
            names[name] = getattr(package, name)
    return names
