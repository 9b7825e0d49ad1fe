"""Reads preference datasets of other projects as pairs."""
