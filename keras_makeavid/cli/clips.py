"""Commands that go on from a clip: frames between its own, and frames after them."""

from keras_makeavid.cli import generate
from keras_makeavid.cli.options import check_at_least_one


class _FromClip:
    counts: tuple[str, ...]

    def prepare(self, options) -> None:
        """Read the clip, and settle the rate: its own if none is asked for."""
        from keras_makeavid import video

        check_at_least_one(options, *self.counts)
        options.few_steps = bool(options.few_steps)
        generate.prepare_sampling(options)
        path, fps = options.clip, options.fps
        options.clip = video.read_video(path, fps=fps, background=options.background)
        if fps is None:
            options.fps = video.probe(path).fps

    def add_clip(self, option) -> None:
        option("clip", help="video file")
        option("--prompt", default="", help="what it shows; none is without guidance")

    def _settings(self, options):
        settings = generate.settings(options)
        if options.guidance is not None:
            settings["guidance_scale"] = options.guidance
        return settings


class Interpolate(_FromClip):
    """Make frames between those of a clip."""

    EXAMPLE = "makeavid interpolate clip.mp4 --factor 4 --out smooth.mp4"
    counts = ("factor", "steps")

    def add_arguments(self, option) -> None:
        self.add_clip(option)
        option("--factor", default=4, help="frames that there are then for one")
        generate.add_video_options(option)

    def run(self, options) -> None:
        from keras_makeavid.video import check_video_path

        fps = options.fps * options.factor
        check_video_path(options.out, fps)
        settings = self._settings(options)
        frames = generate.load_task(options).interpolate(
            options.clip, options.factor, options.prompt, **settings
        )
        generate.write(options, frames[0], fps)


class Extend(_FromClip):
    """Continue a clip."""

    EXAMPLE = "makeavid extend clip.mp4 --frames 64 --out longer.mp4"
    counts = ("frames", "context_frames", "steps")

    def add_arguments(self, option) -> None:
        self.add_clip(option)
        option("--frames", type=int, required=True, help="of the clip and after it")
        option("--context-frames", default=4, help="last frames to go on from")
        generate.add_video_options(option)

    def run(self, options) -> None:
        frames = generate.load_task(options).extend(
            options.clip,
            options.frames,
            options.prompt,
            context_frames=options.context_frames,
            **self._settings(options),
        )
        generate.write(options, frames[0], options.fps)
