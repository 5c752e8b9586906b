"""When a person should hear of an account: the alert policy and what an alert says. Pure."""
