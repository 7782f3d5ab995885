"""What calls a node's daemon: the same verbs and values as `api.Wall`, over its socket."""
