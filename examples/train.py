"""Train the temporal parts of a preset on your clips, as any Keras model.

    makeavid encode clips dataset --preset PRESET --fps 8
    KERAS_BACKEND=jax python examples/train.py PRESET dataset trained

The settings are those of the published model: AdamW, weight decay 0.02, global-norm
clip 1.0, a warm-up of one epoch to 5e-5. For runs that are continued after a kill, see
`makeavid train` and docs/train.md.
"""

import argparse

import keras_makeavid as km


def main():
    """Train and write the new preset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("dataset")
    parser.add_argument("out")
    parser.add_argument("--trainable", default="temporal")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--frames", type=int, help="the preset's own if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--allow-other-encoder", action="store_true")
    options = parser.parse_args()

    task = km.TextToVideo.from_preset(options.preset, dtype="float32")
    dataset = km.data.LatentDataset(
        options.dataset,
        num_frames=options.frames or task.num_frames,
        batch_size=options.batch_size,
        seed=options.seed,
    )
    rate = km.training.WarmupSchedule(5e-5, warmup_steps=len(dataset))
    task.compile(
        optimizer=km.training.AdamW(rate),
        trainable=options.trainable,
        seed=options.seed,
    )
    task.fit(
        dataset,
        epochs=options.epochs,
        allow_other_encoder=options.allow_other_encoder,
    )
    task.save_to_preset(options.out)


if __name__ == "__main__":
    main()
