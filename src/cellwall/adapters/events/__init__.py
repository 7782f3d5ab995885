"""Denied packets as they are logged, and the files and the journal that they are told to."""
