"""Programs that are scheduled, without waiting for their machine code.

Of the compiler's time for a large program most goes into machine code, which changes
neither arithmetic nor what is in the HBM. It writes the scheduled program to a folder
before; nothing else tells of it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_SECONDS_BETWEEN_LOOKS = 1.0
# The compiler writes on until the process ends, and aborts it where it cannot.
_REMOVE_AT_THE_END = (
    "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], True)"
)
_TABLES = re.compile(r"\nFileNames\n.*?\n\n\n", re.DOTALL)
_METADATA = re.compile(r", metadata=\{[^}]*\}")


class Scheduler:
    """Compiles a program until it is scheduled.

    The compiler cannot be told to stop: whoever used this ends the process by
    `os._exit`. It is made before anything loads libtpu, which reads its flags once.

    Example:
    ```python
    with Scheduler() as scheduler:
        text, compiled = scheduler.schedule(lowered)
    ```
    """

    def __enter__(self):
        self._folder = tempfile.mkdtemp(prefix="makeavid-plan-")
        self._remover = subprocess.Popen(
            [sys.executable, "-I", "-c", _REMOVE_AT_THE_END, self._folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        flags = (
            f"--xla_jf_dump_to={self._folder} --xla_jf_dump_hlo_text=true "
            "--xla_jf_dump_llo_text=false"
        )
        self._before = os.environ.get("LIBTPU_INIT_ARGS")
        os.environ["LIBTPU_INIT_ARGS"] = f"{self._before or ''} {flags}".strip()
        return self

    def __exit__(self, *error):
        if self._before is None:
            del os.environ["LIBTPU_INIT_ARGS"]
        else:
            os.environ["LIBTPU_INIT_ARGS"] = self._before

    def schedule(self, lowered: Any) -> tuple[str | None, Any]:
        """The text of the scheduled program, or what was compiled before.

        Args:
            lowered: a `jax.stages.Lowered`.

        Raises:
            jax.errors.JaxRuntimeError: if it does not compile.
        """
        outcome = {}

        def compile_it():
            try:
                outcome["compiled"] = lowered.compile()
            except Exception as error:
                outcome["error"] = error

        thread = threading.Thread(target=compile_it, daemon=True)
        thread.start()
        while True:
            thread.join(_SECONDS_BETWEEN_LOOKS)
            if "error" in outcome:
                raise outcome["error"]
            if "compiled" in outcome:
                return None, outcome["compiled"]
            text = self._read()
            if text is not None:
                return text, None

    def _read(self):
        """The largest program that is there, if it is written to its end."""
        paths = Path(self._folder).glob("*-TLP-hlo.txt")
        path = max(paths, key=lambda path: path.stat().st_size, default=None)
        if path is None:
            return None
        size = path.stat().st_size
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        text = path.read_text()
        return text if len(text) >= size and text.rstrip().endswith("}") else None


def cost_of_schedule(program: str) -> dict[str, float]:
    """Operations and bytes of a program's text, as XLA counts them on any platform.

    It takes kernels to have no operations, and arrays to have no padding.

    Args:
        program: text of an HLO module.

    Example:
    ```python
    cost_of_schedule(text)["flops"]
    ```
    """
    import jax
    from jaxlib import _hlo, _jax

    # Its parser does not know what is written here of source lines.
    program = _METADATA.sub("", _TABLES.sub("\n\n", program))
    module = _hlo.hlo_module_from_text(program)
    return _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)
