"""The analysis: Faust agents that turn audio frames into speech, features and insights."""
