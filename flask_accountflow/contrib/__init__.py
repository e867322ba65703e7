"""Bridges to other extensions. None is needed, and none is imported unless a setting asks for it."""
