"""Alembic's environment and the numbered steps from one schema to the next."""
