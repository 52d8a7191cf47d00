"""Optuna's dashboard on a database of studies."""
