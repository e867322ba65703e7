"""How each system is started and spoken with."""
