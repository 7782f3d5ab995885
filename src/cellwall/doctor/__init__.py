"""Whether a host can carry the wall, and what on it would weaken the wall.

Two halves: `observe` reads the host and decides nothing, `diagnose` decides and reads nothing, so that every finding
is tested without a host that has the fault. Kernel features are not derived from version numbers (distributions build
without some, backport others): a rule that uses each is loaded in a network namespace that is thrown away.
"""

from cellwall.doctor.finding import Finding
from cellwall.doctor.findings import diagnose, render_findings
from cellwall.doctor.observation import Observation
from cellwall.doctor.observe import observe

__all__ = ["Finding", "Observation", "diagnose", "observe", "render_findings"]
