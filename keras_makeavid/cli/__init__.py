"""The console command `makeavid`."""

import argparse
import functools
import importlib
import importlib.util
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from typing import Any

from keras_makeavid import __version__
from keras_makeavid.cli import (
    app,
    clips,
    dataset,
    encode,
    evaluate,
    export,
    generate,
    info,
    plan,
    train,
    upload,
    weights,
)

_COMMANDS = {
    "generate": generate,
    "interpolate": clips.Interpolate(),
    "extend": clips.Extend(),
    "evaluate": evaluate,
    "encode": encode,
    "dataset": dataset,
    "train": train,
    "plan": plan,
    "weights": weights,
    "upload": upload,
    "export": export,
    "app": app,
    "info": info,
}
# JAX first: it trains on every accelerator and has the fastest sampling loop. It is
# taken where Keras's choice is not installed.
_BACKENDS = ("jax", "torch", "tensorflow")
# Of compiled programs. Those used longest ago go first, when a command starts.
_CACHE_BYTES = 2**30
# By default XLA on a CPU orders the training step for many threads: it takes 1.4 times
# the temporary memory, and longer (`benchmarks/train_step.py`).
XLA_FLAGS = "--xla_cpu_enable_concurrency_optimized_scheduler=false"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is the command's own, or 2 for an error."""
    options = _parser().parse_args(arguments)
    # A console that lacks letters of a name shows their numbers, as stderr does.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if options.prepare is not None:
            options.prepare(options)
        _choose_backend(options.backend)
        # The user's own flags come later, and win.
        os.environ["XLA_FLAGS"] = f"{XLA_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
        _keep_compiled_programs()
        if not options.uses_models:
            return options.run(options) or 0
        with _tensorflow_only_as_backend():
            _import_keras_hub_quietly()
            with _on_device(options.device):
                return options.run(options) or 0
    except KeyboardInterrupt:
        print("makeavid: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"{options.prog}: error: {message}", file=sys.stderr)
        return 2


class _Parser(argparse.ArgumentParser):
    def parse_known_args(self, args=None, namespace=None):
        # `-1=last.png` is the value of an option, and no option itself.
        words = iter(sys.argv[1:] if args is None else args)
        joined = []
        for word in words:
            value = next(words, None) if word in ("--keyframe", "--prompt-at") else None
            joined.append(word if value is None else f"{word}={value}")
        return super().parse_known_args(joined, namespace)

    def error(self, message):
        # One line, where argparse prints the whole usage first.
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


class _HelpFormatter(
    argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter
):
    def _get_help_string(self, action):
        # A default of None is said in words, in the help itself; False is no news.
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


def _parser():
    parser = _Parser(
        prog="makeavid",
        description="Text-to-video with Stable Diffusion, in Keras 3.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_commands(parser, _COMMANDS)
    return parser


def _add_commands(parser, commands):
    """Add a subparser for each command, and for those inside a group.

    A command is a module or an object: its docstring is its help, `add_arguments`
    declares options by the `option` that it is given, and `run` does the work.
    `prepare`, if any, refuses or fills in options before a backend is imported.
    """
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in commands.items():
        summary = command.__doc__.splitlines()[0]
        group = getattr(command, "COMMANDS", None)
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=None if group else f"example:\n  {command.EXAMPLE}",
            formatter_class=_HelpFormatter,
        )
        if group:
            _add_commands(subparser, group)
            continue
        option = functools.partial(_add_option, subparser)
        command.add_arguments(option)
        # Without a model there is no need of KerasHub, which takes seconds to import.
        uses_models = getattr(command, "USES_MODELS", True)
        subparser.set_defaults(
            prepare=getattr(command, "prepare", None),
            run=command.run,
            uses_models=uses_models,
            prog=subparser.prog,
        )
        option(
            "--backend",
            choices=_BACKENDS,
            help="Keras backend; if not given, KERAS_BACKEND or that of keras.json",
        )
        if uses_models:
            option(
                "--device",
                help="device to compute on, as the backend names it, such as cpu, "
                "gpu:1, or mps with torch; its own choice if not given",
            )
        option("--debug", default=False, help="show the traceback of an error")


def _add_option(parser, *names, **settings):
    """`add_argument`, with the type of the default: `False` is a flag, `[]` a list."""
    default = settings.get("default")
    if default is False:
        settings["action"] = "store_true"
    elif default == []:
        settings["action"] = "append"
        settings["help"] += "; may be given again"
    elif isinstance(default, int | float):
        settings["type"] = type(default)
    parser.add_argument(*names, **settings)


def _choose_backend(asked_for: str | None) -> None:
    """Settle the backend before Keras is imported, as Keras itself would choose."""
    if asked_for is None and (named := os.environ.get("KERAS_BACKEND")):
        _check_backend(named, "KERAS_BACKEND")
        return
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name)]
    backend = asked_for or _backend_of_keras()
    if backend not in installed and (asked_for or not installed):
        problem = f"The backend {backend} is not installed"
        raise ValueError(f"{problem}: pip install 'keras-makeavid[{backend}]'")
    if backend not in installed:
        print(
            f"makeavid: {backend}, the backend of Keras, is not installed: "
            f"{installed[0]} is used",
            file=sys.stderr,
        )
        backend = installed[0]
    os.environ["KERAS_BACKEND"] = backend


def _check_backend(name: Any, source: str) -> None:
    if name not in _BACKENDS:
        raise ValueError(
            f"The backend that {source} names must be one of {', '.join(_BACKENDS)} "
            f"(--backend chooses one). Received: {name!r}"
        )


def _backend_of_keras() -> str:
    """What Keras takes where no variable names a backend: that of `keras.json`."""
    home = os.path.expanduser("~")
    usual = os.path.join(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    folder = os.path.expanduser(os.environ.get("KERAS_HOME", usual))
    path = os.path.join(folder, "keras.json")
    try:
        with open(path, encoding="utf-8") as file:
            settings = json.load(file)
    # As Keras, which passes over a file that is no JSON.
    except (OSError, ValueError):
        return "tensorflow"
    if not isinstance(settings, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {settings!r:.80}")
    backend = settings.get("backend", "tensorflow")
    _check_backend(backend, path)
    return backend


def _keep_compiled_programs() -> None:
    """Let JAX compile a program once, and find it in every later run."""
    # Half a second is less than loading a program takes.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        # The user's own, in which a limit would have to be everyone's.
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = os.path.join(cache, "keras_makeavid", "jax")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    _remove_oldest_programs(folder)


def _remove_oldest_programs(folder: str) -> None:
    """Keep our cache below its size. JAX's own limit is lost if it is killed."""
    with suppress(OSError), os.scandir(folder) as entries:
        programs = [(entry.stat(), entry.path) for entry in entries if entry.is_file()]
        size = sum(status.st_size for status, _ in programs)
        for status, path in sorted(programs, key=lambda program: program[0].st_atime):
            if size <= _CACHE_BYTES:
                break
            os.unlink(path)
            size -= status.st_size


@contextmanager
def _tensorflow_only_as_backend():
    """Keep TensorFlow, which takes seconds, from being imported with KerasHub."""
    hidden = os.environ["KERAS_BACKEND"] != "tensorflow"
    hidden = hidden and "tensorflow" not in sys.modules
    if hidden:
        sys.modules["tensorflow"] = None
    try:
        yield
    finally:
        if hidden:
            del sys.modules["tensorflow"]


@contextmanager
def _on_device(name: str | None):
    """Compute on a device, if one is named; what is none is refused."""
    if name is None:
        yield
        return
    import keras

    backend = keras.config.backend()
    try:
        with keras.device(name):
            keras.ops.zeros(1)
        if backend == "tensorflow":
            # It would take the CPU in the place of what is not there.
            there = keras.distribution.list_devices()
            if not any(f"{each}:".startswith(f"{name}:") for each in there):
                raise ValueError(f"there are {', '.join(there)}")
    except Exception as error:
        message = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"--device {name} cannot be used with {backend}"
        raise ValueError(f"{problem}: {message[0]}") from error
    with keras.device(name):
        yield


def _import_keras_hub_quietly() -> None:
    """Import KerasHub without TensorFlow's chatter, which is written past Python."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        importlib.import_module("keras_hub")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
