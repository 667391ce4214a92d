"""What the site has besides the pages of this folder: a hook of MkDocs.

- `README.md` is the home page, and what stands at the repository's top is beside it.
- A page that links to a file or folder of the repository that is no page gets one,
  with that file's text. So links work both on a forge and on the site.
- Each package with an `__all__` has a page of the reference, made of docstrings.
"""

import ast
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("keras_makeavid", "weights_tools")
# Markdown's [text](target), and src="target" and href="target" of HTML.
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"#\s]+)(#[^)"\s]*)?(?=[)"])')
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", "": "sh"}


def on_config(config):
    """List the reference's pages in the navigation."""
    pages = [{name: reference_page(name)} for name in public_packages()]
    for section in config.nav:
        if "Reference" in section:
            section["Reference"] = pages
    return config


def on_files(files, config):
    """Add the pages that are made here."""
    for path in sorted(ROOT.glob("*.md")):
        name = "index.md" if path.name == "README.md" else path.name
        add_page(files, config, name, path.read_text(encoding="utf-8"), path.parent)
    for name, members in public_packages().items():
        add_page(files, config, reference_page(name), reference(name, members))
    for file in list(files.documentation_pages()):
        if file.abs_src_path:
            path = Path(file.abs_src_path)
            text = path.read_text(encoding="utf-8")
            add_page(files, config, file.src_uri, text, path.parent)
    return files


def add_page(files, config, name, text, folder=None):
    """Add the page `name`; its links are those of a file in `folder`."""
    if folder is not None:
        text = with_links_of_the_site(files, config, name, text, folder)
    if name in files.src_uris:
        files.remove(files.src_uris[name])
    files.append(File.generated(config, name, content=text))


def with_links_of_the_site(files, config, name, text, folder):
    """`text` with links to pages of the site in place of links to files."""

    def on_the_site(match):
        start, target, anchor = match[1], match[2], match[3] or ""
        path = (folder / target).resolve()
        inside = path.is_relative_to(ROOT)
        if re.match(r"[a-z]+:", target) or not (inside and path.exists()):
            return match[0]
        page = site_page(files, config, path.relative_to(ROOT))
        return f"{start}{os.path.relpath(page, PurePosixPath(name).parent)}{anchor}"

    return LINK.sub(on_the_site, text)


def site_page(files, config, path):
    """Where `path` of the repository is on the site; adds a page if there is none."""
    if path.name == "README.md" and path.parent == Path():
        return "index.md"
    if len(path.parts) == 1 and path.suffix == ".md":
        return path.name
    if path.parts[0] == "docs" and (ROOT / path).is_file():
        return path.relative_to("docs").as_posix()
    page = f"source/{path.as_posix()}.md"
    if page not in files.src_uris:
        text = "\n\n".join([f"# {path.as_posix()}", *source_text(path)])
        files.append(File.generated(config, page, content=text + "\n"))
        # Not in the navigation: these are reached from the pages that link to them.
        files.src_uris[page].inclusion = type(files.src_uris[page].inclusion).NOT_IN_NAV
    return page


def source_text(path):
    """The text of a file, or of the files in a folder, as blocks of code."""
    folder = (ROOT / path).is_dir()
    for file in sorted((ROOT / path).iterdir()) if folder else [ROOT / path]:
        if file.is_file() and file.suffix in LANGUAGES:
            if folder:
                yield f"## {file.name}"
            code = file.read_text(encoding="utf-8").rstrip()
            yield f"````{LANGUAGES[file.suffix]}\n{code}\n````"


def public_packages():
    """The public names of each package that has some, by the package's name."""
    packages = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("__init__.py")):
            names = [
                name
                for name in declared_names(path)
                if name[0] != "_" and not (path.parent / name).is_dir()
            ]
            if names:
                packages[".".join(path.parent.relative_to(ROOT).parts)] = names
    return packages


def declared_names(path):
    """The names in a module's `__all__`."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return ast.literal_eval(node.value)
    return []


def reference_page(package):
    """Where the reference of a package is."""
    return f"reference/{package}.md"


def reference(package, members):
    """The page of a package, for mkdocstrings to fill."""
    head = f"# {package}\n\n::: {package}\n    options:\n      members: false\n"
    for option in ("heading", "toc_entry"):
        head += f"      show_root_{option}: false\n"
    head += "      show_source: false\n"
    return head + "".join(f"\n::: {package}.{name}\n" for name in members)
