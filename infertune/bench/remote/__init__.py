"""Workers on other devices and machines: Ray places and restarts them, infertune measures on them."""
