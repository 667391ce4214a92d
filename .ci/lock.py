"""Write requirements.lock and requirements-cuda.lock anew.

`requirements-cpu.lock` is written by hand: no index that uv asks has that build.

    pip install uv
    make lock

Versions that are locked stay; `make lock UPGRADE=--upgrade` takes the newest of all.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
CUDA_LOCK = ROOT / "requirements-cuda.lock"
HEADER = """\
# Exact versions for development and CI, with the hashes of the files for every
# platform. Made by `make lock` out of pyproject.toml; not edited by hand.
"""
# PyPI's torch for Linux needs these. A CPU build of the same version does not.
CUDA = ("cuda-", "nvidia-", "triton==")


def compiled(options: list[str]) -> list[str]:
    """The lines of each requirement: the pin first, then its hashes."""
    command = ["uv", "pip", "compile", "pyproject.toml", "--universal"]
    command += ["--python-version", "3.11.5", "--generate-hashes", "--no-header"]
    command += ["--no-annotate", "--extra", "all", "--extra", "test", "--extra", "docs"]
    command += ["--output-file", LOCK.name, *options]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, env=environment
    )
    requirements = []
    for line in LOCK.read_text().splitlines(keepends=True):
        if line.startswith(" "):
            requirements[-1] += line
        else:
            requirements.append(line)
    return requirements


def main():
    """Compile, and keep what CUDA alone needs apart."""
    # The pins of both are what uv keeps.
    if CUDA_LOCK.exists():
        LOCK.write_text(LOCK.read_text() + CUDA_LOCK.read_text())
    requirements = compiled(sys.argv[1:])
    cuda = [text for text in requirements if text.startswith(CUDA)]
    others = [text for text in requirements if text not in cuda]
    LOCK.write_text(HEADER + "".join(others))
    CUDA_LOCK.write_text(HEADER + "".join(cuda))


if __name__ == "__main__":
    main()
