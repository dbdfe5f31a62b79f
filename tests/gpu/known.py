"""What is known of the project on a GPU, and may only become less."""

ROUNDED: dict[str, str] = {}
"""Recipes whose numbers are the CPU's to rounding only, and why."""

SAMPLER_WAITS: dict[str, dict[str, str]] = {}
"""By recipe: callers that wait inside the loop of a sampler, and why."""

WAITS: dict[str, dict[str, tuple[int, str]]] = {}
"""By stage: callers that wait outside of samplers, how often at most over the recipes, and why."""
