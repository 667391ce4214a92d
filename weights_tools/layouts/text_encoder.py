"""Layouts of CLIP's text encoder."""

from __future__ import annotations

from dataclasses import replace

from weights_tools.layouts.layout import (
    HEADS,
    KERAS_LEAVES,
    TORCH_AXES,
    TORCH_LEAVES,
    Layout,
)

_MARKER = "embedding/token_embedding/embeddings"

DIFFUSERS = Layout(
    name="diffusers",
    kind="text_encoder",
    container="safetensors",
    renames=(
        (r"^embedding/", "embeddings/"),
        (r"^encoder_block_(\d+)/", r"encoder/layers/\1/"),
        (r"/layer_norm_(\d)/", r"/layer_norm\1/"),
        (r"^layer_norm/", "final_layer_norm/"),
        (r"attention/query/", "self_attn/q_proj/"),
        (r"attention/key/", "self_attn/k_proj/"),
        (r"attention/value/", "self_attn/v_proj/"),
        (r"attention/attention_output/", "self_attn/out_proj/"),
        (r"dense_(\d)/", r"mlp/fc\1/"),
        *TORCH_LEAVES,
    ),
    axes=TORCH_AXES,
    groups=HEADS,
    # transformers 5 writes no prefix, and reads both.
    roots=("text_model.", ""),
    marker=_MARKER,
    # A buffer of 0, 1, 2, ... that older files carry along.
    ignored=r"embeddings\.position_ids$",
)

LDM = replace(
    DIFFUSERS,
    name="ldm",
    roots=("cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."),
)

KERAS = Layout(
    name="keras",
    kind="text_encoder",
    container="hdf5",
    renames=(
        (r"^embedding/", "token_and_position_embedding/"),
        (r"^encoder_block_0/", "clip_encoder_layer/"),
        (r"^encoder_block_(\d+)/", r"clip_encoder_layer_\1/"),
        (r"^layer_norm/", "layer_normalization/"),
        (r"attention/(query|key|value)/", r"attention/\1_dense/"),
        (r"attention/attention_output/", "attention/output_dense/"),
        *KERAS_LEAVES,
    ),
    roots=("layers/", "text_encoder/layers/"),
    marker=_MARKER,
)

TEXT_ENCODER_LAYOUTS = (KERAS, DIFFUSERS, LDM)
