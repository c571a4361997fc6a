"""What the paper leaves open: can a profile be steered, is it true, can it be read, how much history does it need?

Each measure takes a finished run and its models or texts; definitions stand in docs/metrics.md. What is measured once lies on
disk under the hash of all that it follows from (`cache`).
"""
