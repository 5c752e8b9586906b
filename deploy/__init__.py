"""How the service is run and tried: the churnwatch command, a Kafka for a laptop, replays, the demo, the benchmark."""
