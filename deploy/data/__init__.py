"""The sample data that ships with the product; ATTRIBUTION.md beside it says whose it is."""
