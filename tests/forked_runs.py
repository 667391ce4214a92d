"""Training runs in processes of their own, started at once: forks of one that waits.

It has imported everything, but no backend has begun: as if each were started anew.
Lines of JSON come in: a recipe; lines go out: a process id, then its exit code.
"""

import json
import os
import sys


def main():
    # What a run would import when it first needs it.
    import grain  # noqa: F401
    import orbax.checkpoint  # noqa: F401
    import tensorboardX  # noqa: F401

    from keras_makeavid import training
    from keras_makeavid.recipes import recipe_from_dict

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            # What training prints must not get among the answers.
            os.dup2(2, 1)
            result = training.train(recipe_from_dict(json.loads(line)), resume="auto")
            os._exit(0 if result.signal is None else 128 + result.signal)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
