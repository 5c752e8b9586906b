"""The demo: a broker, a worker and a replay on one machine, and a live table of the accounts at risk."""
