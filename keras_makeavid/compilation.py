"""Compile a function of tensors that uses Keras layers, on any backend."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_makeavid.devices import replicated
from keras_makeavid.tensor import Tensor


def compile_inference(
    function: Callable[..., Any],
    layers: Sequence[keras.layers.Layer],
    calls_host: bool = False,
) -> Callable[..., Any]:
    """Return `function` as one compiled program without gradients.

    It takes trees of tensors and returns one. Under JAX the weights of `layers`, all
    that it reads, are arguments of the program, which new ones do not compile again;
    `lower`, which takes shapes as well, gives a `jax.stages.Lowered`.

    `calls_host` is whether `function` uses `host_callback`. XLA under TensorFlow
    cannot, so there only what `compile_part` marks goes through XLA.
    """
    backend = keras.config.backend()
    if backend == "jax":
        return _compile_jax(function, layers)
    if backend == "tensorflow":
        import tensorflow as tf

        # No Python here depends on values: rewriting it would only take memory.
        return tf.function(function, jit_compile=not calls_host, autograph=False)
    import torch

    return torch.inference_mode()(function)


def _compile_jax(function, layers):
    import jax

    variables = list({id(v): v for layer in layers for v in layer.variables}.values())

    # A program holds on to the distribution that it was traced under.
    @functools.cache
    def program_of(distribution):
        @jax.jit
        def program(values, *arguments):
            pairs = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=pairs):
                outputs = function(*arguments)
            return keras.tree.map_structure(replicated, outputs)

        return program

    def call(*arguments):
        program = program_of(keras.distribution.distribution())
        return program([v.value for v in variables], *arguments)

    def lower(*arguments):
        program = program_of(keras.distribution.distribution())
        return program.lower([v.value for v in variables], *arguments)

    call.lower = lower
    return call


def compile_part(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark the heavy part of a function that is compiled with `calls_host`."""
    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=True)
    return function


@contextlib.contextmanager
def weights_of_loop(layer: keras.layers.Layer, state) -> Iterator[Tensor]:
    """Let XLA compute what it makes of weights in each step of a loop, not before it.

    Weights in int8 would be widened all at once. The block uses what it is given in
    place of `state`, a tensor that changes in each step.
    """
    variables = layer.variables
    is_int8 = any(keras.backend.standardize_dtype(v.dtype) == "int8" for v in variables)
    if keras.config.backend() != "jax" or not is_int8:
        yield state
        return
    import jax

    values = [v.value for v in variables]
    values, state = jax.lax.optimization_barrier((values, state))
    pairs = list(zip(variables, values, strict=True))
    with keras.StatelessScope(state_mapping=pairs):
        yield state


def host_callback(
    callback: Callable[..., None], make: Callable[[], tuple], state, due=True
) -> tuple:
    """Call `callback(*make())` on the host, where `due` holds, when `state` is there.

    `make` computes a tuple of tensors only then. Use the result in place of `state`.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        def call():
            jax.debug.callback(callback, *keras.tree.map_structure(replicated, make()))

        if due is True:
            call()
        else:
            jax.lax.cond(due, call, lambda: None)
    elif backend == "tensorflow":
        import tensorflow as tf

        def called(*values):
            callback(*values)
            return 0

        def call():
            return tf.py_function(called, make(), tf.int32)

        with tf.control_dependencies(state):
            done = call() if due is True else tf.cond(due, call, lambda: 0)
        with tf.control_dependencies([done]):
            return tuple(tf.identity(x) for x in state)
    elif due:
        callback(*make())
    return state


def wait_for_host_callbacks() -> None:
    """Return when every `host_callback` of the programs run so far has run."""
    if keras.config.backend() == "jax":
        import jax

        jax.effects_barrier()
