"""Mails: what a letter is, how it is handed over, and what starts that."""
