"""Version 1 of the schemas. Fields are only ever added."""
