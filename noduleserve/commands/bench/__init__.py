"""`noduleserve bench ...`: speed as a ratio to a baseline in the same run; a file a benchmark.

What a command needs is imported when it runs: most of it belongs to the extra noduleserve[bench].
"""

from __future__ import annotations

import typer

from .compare import bench_compare
from .decoders import bench_decoders
from .encoder import bench_encoder
from .gate import bench_gate
from .night import bench_night
from .perf_analyzer_data import bench_perf_analyzer_data
from .plan import bench_plan
from .preprocessing import bench_preprocessing
from .results import bench_results
from .roofline import bench_roofline
from .serving import bench_serving
from .soak import bench_soak
from .tune import bench_tune

bench = typer.Typer(no_args_is_help=True, help="Measure speed as a ratio to a baseline in the same run.")

bench.command("preprocessing")(bench_preprocessing)
bench.command("encoder")(bench_encoder)
bench.command("serving")(bench_serving)
bench.command("decoders")(bench_decoders)
bench.command("results")(bench_results)
bench.command("soak")(bench_soak)
bench.command("perf-analyzer-data")(bench_perf_analyzer_data)
bench.command("roofline")(bench_roofline)
bench.command("night")(bench_night)
bench.command("compare")(bench_compare)
bench.command("plan")(bench_plan)
bench.command("gate")(bench_gate)
bench.command("tune")(bench_tune)
