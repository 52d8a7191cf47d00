"""The search: studies, budgets, strategies, proxies, executors, export."""
