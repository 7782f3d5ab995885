"""Whether a path is root's all the way: that nobody else made what lies at it, or can put another in its place.

As sshd asks of a file of keys (OpenSSH, misc.c, `safe_path`), and systemd of what it is to make (chase.c, CHASE_SAFE):
each directory on the way belongs to root or to who asks, and nobody else writes into it. Unlike for sshd a sticky one
is as good, as /tmp is, where what is somebody's is renamed by nobody else.
"""

import os
import stat
from collections.abc import Iterator

from cellwall.errors import Conflict


def refuse_others_directories(path: str) -> None:
    """Raise Conflict where somebody else than root, or who asks, made a directory or a link on the way to this one, or
    it itself, or may rename one. What is not there yet is nobody's."""
    for way in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        for place in _way(way):
            try:
                found = os.lstat(place)
            except OSError:  # it is not there, or no directory, which who makes it is told
                break
            if why := _why_not(found):
                raise Conflict(f"{path}: may be another's than root's: {place} {why}")


def _why_not(found: os.stat_result) -> str:
    """What is wrong with a directory or a link, or ""."""
    # In a user namespace the host's root is nobody, and / is his.
    if found.st_uid not in (0, os.geteuid(), os.stat("/").st_uid):
        return f"belongs to uid {found.st_uid}"
    by_group = found.st_mode & stat.S_IWGRP and found.st_gid not in (0, os.getegid())
    others = not stat.S_ISLNK(found.st_mode) and (by_group or found.st_mode & stat.S_IWOTH)
    if others and not found.st_mode & stat.S_ISVTX:
        return f"lets others rename what is in it (mode {stat.S_IMODE(found.st_mode):o})"
    return ""


def _way(path: str) -> Iterator[str]:
    """The directories above it, from the first one on, and itself."""
    names = path.strip("/").split("/")
    return ("/" + "/".join(names[:count]) for count in range(len(names) + 1))
