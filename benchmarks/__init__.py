"""Accounts in Python, side by side: see README.md."""
