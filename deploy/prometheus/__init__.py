"""Recording rules for Prometheus: the ratios of the portfolio, made of the workers' gauges."""
