"""The steps; the newest one is tables.REVISION."""
