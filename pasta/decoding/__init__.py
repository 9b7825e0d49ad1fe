"""Decoding videos: files, folders of JPEGs, and the process in which it is done."""
