"""Scan orders: which tokens the routes of a selective scan visit, step by step."""
