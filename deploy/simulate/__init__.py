"""`churnwatch simulate`: believable portfolios of any size, from a seed, with the truth of their figures computed apart."""
