"""Making the state of an installation anew from its inputs: `churnwatch rebuild`."""
