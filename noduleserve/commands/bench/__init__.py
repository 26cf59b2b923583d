"""`noduleserve bench ...`: speed as a ratio to a baseline in the same run; a file a benchmark.

What a command needs is imported when it runs: most of it belongs to the extra noduleserve[bench].
"""

from __future__ import annotations

import typer

from .decoders import bench_decoders
from .encoder import bench_encoder
from .preprocessing import bench_preprocessing
from .results import bench_results
from .serving import bench_serving
from .soak import bench_soak

bench = typer.Typer(no_args_is_help=True, help="Measure speed as a ratio to a baseline in the same run.")

bench.command("preprocessing")(bench_preprocessing)
bench.command("encoder")(bench_encoder)
bench.command("serving")(bench_serving)
bench.command("decoders")(bench_decoders)
bench.command("results")(bench_results)
bench.command("soak")(bench_soak)
