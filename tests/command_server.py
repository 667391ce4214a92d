"""Runs `makeavid` and `python` for shell blocks, in forks of one warm process.

A line of bash then costs what it does, and not the imports of three libraries. Two
small scripts stand for the commands on the PATH: each hands its arguments, folder,
environment and files over, and exits with the code that comes back. What runs so is
told that this `python` is its own, and starts others by it.
"""

import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked_for = json.dumps([{command!r}, sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(server, [asked_for.encode()], [0, 1, 2])
sys.exit(int(server.recv(16) or 70))
"""
# The smallest sizes, behind the arguments on the page: of two values the last holds.
SMALLEST = {
    "generate": ["--steps", "1", "--frames", "2"],
    "evaluate": [
        *("--steps", "1", "--count", "1", "--seeds", "1", "--frames", "4"),
        "--no-bar",
    ],
    "encode": ["--workers", "1"],
    "dataset motions": ["--clips", "2"],
    "train": [
        *("--set", "stage.*.length=2 steps", "--set", "data.batch_size=1"),
        *("--set", "stage.*.learning_rate.warmup=1 steps"),
        *("--set", "logs.tensorboard=false"),
    ],
    "draw_clips.py": ["1"],
}


@contextlib.contextmanager
def warm_commands(**variables):
    """The environment of a server: its commands are the first on the PATH.

    With `AT_SMALLEST_SIZES` among the variables they take the sizes of `SMALLEST`.
    """
    # A socket's address has 108 characters at most: pytest's folders can be longer.
    with tempfile.TemporaryDirectory() as commands:
        environment = {
            **os.environ,
            **variables,
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_CACHE": f"{commands}/hub",
        }
        server = subprocess.Popen(
            # Without the script's folder, which has a keras_makeavid of its own.
            [sys.executable, "-P", __file__, f"{commands}/socket", commands],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout.readline() == "ready\n"
            yield environment
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def with_smallest_sizes(arguments: list[str]) -> list[str]:
    """`arguments` of `makeavid`, or a script and its own, at the smallest size."""
    sizes_of = SMALLEST if "AT_SMALLEST_SIZES" in os.environ else {}
    for command, sizes in sizes_of.items():
        words = command.split()
        if [Path(word).name for word in arguments[: len(words)]] == words:
            return arguments + sizes
    return arguments


def run(command: str, arguments: list[str]):
    """Run the command as its own process would."""
    if command == "makeavid":
        from keras_makeavid.cli import main

        return main(with_smallest_sizes(arguments))
    if arguments[0] in ("-c", "-"):
        code = arguments[1] if arguments[0] == "-c" else sys.stdin.read()
        sys.argv = ["-c", *arguments[2:]]
        return exec(compile(code, "block", "exec"), {"__name__": "__main__"})
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        return runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    sys.argv = with_smallest_sizes(arguments)
    return runpy.run_path(arguments[0], run_name="__main__")


def run_in_fork(command, arguments, folder, environment, files, answer) -> None:
    """Start the command; `answer` is called with its exit code, 1 where it raised."""
    if os.fork():
        return
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(folder)
        os.environ.update(environment)
        result = run(command, arguments)
        code = result if isinstance(result, int) else 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    answer(code)
    os._exit(code)


def main(address: str, commands: str):
    """Write the scripts to the folder `commands`, and serve until the input ends."""
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import torch

    from keras_makeavid import TextToVideo, data, training, video  # noqa: F401
    from keras_makeavid.training import image_objectives

    torch.set_num_threads(1)
    # The scale of latents is that of a few pictures.
    image_objectives._IMAGES = 16
    for command in ("makeavid", "python"):
        script = Path(commands) / command
        script.write_text(
            CLIENT.format(python=sys.executable, address=address, command=command)
        )
        script.chmod(0o755)
    sys.executable = str(Path(commands) / "python")
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    print("ready", flush=True)
    while True:
        connection, _ = server.accept()
        message, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
        run_in_fork(
            *json.loads(message),
            files,
            lambda code, to=connection: to.send(str(code).encode()),
        )
        connection.close()
        for file in files:
            os.close(file)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


if __name__ == "__main__":
    main(*sys.argv[1:])
