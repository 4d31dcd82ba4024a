"""Calls as files and back: export from the topics, import into them."""
