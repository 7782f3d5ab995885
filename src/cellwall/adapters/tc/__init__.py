"""What hangs at either side of a link: the latch, and the filter of unfinished checksums."""
