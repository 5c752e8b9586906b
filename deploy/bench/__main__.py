"""`python -m deploy.bench`: the same as `churnwatch bench`."""

from __future__ import annotations

from deploy.bench.cli import bench_app

if __name__ == "__main__":
    bench_app(prog_name="python -m deploy.bench")
