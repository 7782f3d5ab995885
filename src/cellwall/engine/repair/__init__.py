"""From what is there to what should be: after a death, after somebody else's change."""
