"""SGLang's server. Its command, its arguments and its readiness are tested against stand-ins; no GPU ran it yet."""
