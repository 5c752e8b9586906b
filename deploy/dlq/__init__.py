"""`churnwatch dlq`: looking at dead letters, and sending their records again."""
