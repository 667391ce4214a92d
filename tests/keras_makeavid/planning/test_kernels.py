"""Attention's kernels at the published model's sizes, by the compiler for TPUs."""

import importlib.util

import keras
import pytest

if keras.config.backend() != "jax" or importlib.util.find_spec("libtpu") is None:
    pytest.skip("needs libtpu and JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_makeavid.layers.operations import pallas_attention
from keras_makeavid.planning import find_topology

HEADS, FRAMES, TOKENS = 8, 24, 77
# Channels and pixels of a frame at each level, 512 x 512.
LEVELS = [(320, 4096), (640, 1024), (1280, 256), (1280, 64)]

topologies = pytest.mark.parametrize("topology", ["v4-8", "v5e-1", "v5p-8", "v6e-1"])
levels = pytest.mark.parametrize(("channels", "pixels"), LEVELS)


def compile_gradients(function, shapes, topology):
    """Compile a kernel and its gradients for one chip; nothing runs."""
    device = find_topology(topology).devices()[0]
    sharding = jax.sharding.SingleDeviceSharding(device)
    arrays = [jax.ShapeDtypeStruct(s, jnp.bfloat16, sharding=sharding) for s in shapes]

    def total(*arrays):
        return function(*arrays, HEADS).astype(jnp.float32).sum()

    return jax.jit(jax.value_and_grad(total, (0, 1, 2))).lower(*arrays).compile()


@topologies
@levels
def test_attention_within_a_frame_and_to_the_text_compiles(topology, channels, pixels):
    frame, text = (FRAMES, channels, pixels), (1, channels, TOKENS)
    compile_gradients(pallas_attention.attention, [frame] * 3, topology)
    video = (1, channels, FRAMES * pixels)
    compile_gradients(pallas_attention.attention, [video, text, text], topology)


@topologies
@levels
def test_attention_between_frames_fits_the_fast_memory(topology, channels, pixels):
    video = (1, FRAMES, channels, pixels)
    compile_gradients(pallas_attention.attention_over_frames, [video] * 3, topology)
