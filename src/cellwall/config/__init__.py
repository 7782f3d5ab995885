"""What the operator configured, from five places, and the directories that a node uses.

Owns: the configuration file's format, the names of the environment variables, the order flag > environment
> file > conflist > default, the record of the settings in force, and where configuration, state and run files live.
Every value is parsed into the model's types here; nothing below this package sees a TOML table or an environment
variable.
Refuses: a key that it does not know (a misspelt deny would otherwise be an open door), a value of another
type, and settings that `Settings.validate` refuses. Each refusal names the key, the value and the place it
came from.
"""

from cellwall.config.choice import read_choice, write_choice
from cellwall.config.load import Loaded, Origin, judge_flags, load_settings, mode_of
from cellwall.config.mode import Mode, Serving, drop_mode_record, record_daemon, recorded_mode
from cellwall.config.paths import Paths, paths_for
from cellwall.config.record import OTHERS_IN_FORCE, record_settings, recorded_settings, unlike_configured

__all__ = [
    "OTHERS_IN_FORCE",
    "Loaded",
    "Mode",
    "Origin",
    "Paths",
    "Serving",
    "drop_mode_record",
    "judge_flags",
    "load_settings",
    "mode_of",
    "paths_for",
    "read_choice",
    "record_daemon",
    "record_settings",
    "recorded_mode",
    "recorded_settings",
    "unlike_configured",
    "write_choice",
]
