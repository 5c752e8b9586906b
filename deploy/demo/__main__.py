"""`python -m deploy.demo`."""

import signal

# Until something runs that must be taken down, Ctrl-C just ends it: what follows takes a second to import.
signal.signal(signal.SIGINT, signal.SIG_DFL)

from deploy.demo.cli import demo_app  # noqa: E402

demo_app()
