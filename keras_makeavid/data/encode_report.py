"""What became of each clip that was to be encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from keras_makeavid.data.json_files import write_json

REPORT_NAME = "report.json"


@dataclass
class EncodeReport:
    """What became of each clip.

    Args:
        encoded: ids of clips encoded now.
        skipped: ids of clips found finished.
        dropped: id of each clip that was filtered out, and why.
        failed: id of each broken clip, and why.
    """

    encoded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write it as `report.json`.

        Args:
            folder: the dataset's folder.
        """
        write_json(folder / REPORT_NAME, asdict(self))
