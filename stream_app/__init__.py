"""The running service: Kafka in, account state, scores and alerts out."""
