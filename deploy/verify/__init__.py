"""`churnwatch verify`: what an installation has written, held against its inputs by a second, naive implementation."""
