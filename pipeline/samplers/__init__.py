"""Samplers: Markov kernels as frozen values that are called, `sampler(energy, x, rng) -> (x, Stats)`."""
