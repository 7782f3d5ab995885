"""Containers come and go: whether they may, in what order, and where there is room."""
