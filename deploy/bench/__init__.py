"""The benchmark: the real worker on the real broker under a seeded load, beside the yardsticks that measure the machine."""
