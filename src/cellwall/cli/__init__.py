"""The `cellwall` command: arguments in, one call of the Python API, a table or a JSON document out.

Owns: the grammar of the command line, the exit statuses, the texts and documents that people and programs read.
Refuses: decisions. Whatever a command means is decided below `cellwall.api`; a module here parses text into the
model's values, calls, and says what came back.
"""
