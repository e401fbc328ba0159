"""Benchmarks: each returns ratios of one run, taken in turns on one machine; the command prints them.

Wrong options raise `UserError`, one line that names them.
"""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch's profiler speaks on stderr unless told before it is loaded
