"""Video and picture files: read, resize, resample and write them as uint8 arrays."""

from keras_makeavid.video.pictures import (
    check_image_path,
    read_image,
    read_mask,
    write_image,
)
from keras_makeavid.video.reader import VideoInfo, probe, read_video
from keras_makeavid.video.resize import contact_sheet, cover_crop
from keras_makeavid.video.writer import check_video_path, encode_video, write_video

__all__ = [
    "VideoInfo",
    "check_image_path",
    "check_video_path",
    "contact_sheet",
    "cover_crop",
    "encode_video",
    "probe",
    "read_image",
    "read_mask",
    "read_video",
    "write_image",
    "write_video",
]
