"""How every app uses SQLite here: as its documentation advises where several processes write."""

#: With a write-ahead log, "NORMAL" loses nothing but the last moment before a power failure
#: (https://www.sqlite.org/pragma.html#pragma_synchronous). So it is not the speed of the disk that is compared.
PRAGMAS = ("busy_timeout=30000", "journal_mode=WAL", "synchronous=NORMAL")
