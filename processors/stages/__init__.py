"""The analysis itself: pure per-stream objects, records in and records out, all time media time."""
