"""Publish a preset on Hugging Face's hub, with its model card."""

EXAMPLE = "makeavid upload PRESET OWNER/NAME --license mit --prompt 'a cat'"


def add_arguments(option) -> None:
    """Declare the options."""
    option("preset", help="folder of a whole preset, or name of one of this package")
    option("repository", help="OWNER/NAME on the hub; made if need be")
    option("--license", required=True, help="as the hub names it, such as apache-2.0")
    option("--license-link", help="address of a licence that the hub does not know")
    option("--base-model", help="repository that it was made of, or none; else known")
    option("--prompt", dest="prompts", default=[], required=True, help="for the code")
    option("--gallery", default=False, help="generate and show a video of each prompt")
    option("--evaluation", help="evaluation.json of the preset, by makeavid evaluate")
    option("--about", help="file of Markdown to put into the card")
    option("--tag", dest="tags", default=[], help="further tag")
    option("--dry-run", metavar="DIR", help="write the folder, and upload nothing")


def run(options) -> None:
    """Write the folder, or upload it."""
    from dataclasses import fields

    from keras_makeavid.publishing import Card, publish

    card = Card(**{field.name: getattr(options, field.name) for field in fields(Card)})
    print(publish(options.preset, options.repository, card, options.dry_run))
