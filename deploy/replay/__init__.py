"""Sample data as events: pure mappings from public data sets, and the producer that sends them in time order."""
