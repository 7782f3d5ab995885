"""How many examples are drawn where each of them takes long."""

from hypothesis import settings


def examples(count: int) -> settings:
    """So many instead of a hundred, and of a quick run's fewer in proportion."""
    return settings(max_examples=max(1, count * settings.default.max_examples // 100))
