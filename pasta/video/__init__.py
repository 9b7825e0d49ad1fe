"""Reads videos, files and folders of JPEGs, in a process that can be killed."""

from pasta.video.decord_files import VideoError
from pasta.video.find import list_videos
from pasta.video.read import file_digest, read_frames

__all__ = ["VideoError", "file_digest", "list_videos", "read_frames"]
