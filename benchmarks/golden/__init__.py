"""Parts of benchmarks/golden.py: two trees, what both are given, the cases, running and comparing them."""
