"""Proxies: cheap trainings that rank architectures, and the data they are ranked on."""
