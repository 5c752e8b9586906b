"""`python -m deploy.demo`."""

from deploy.demo.cli import demo_app

demo_app()
