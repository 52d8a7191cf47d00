"""The command line: parse, call the rooms below, print; one file a room."""
