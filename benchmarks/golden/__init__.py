"""Parts of benchmarks/golden.py: the two trees, their inputs, the cases, running and comparing them."""
