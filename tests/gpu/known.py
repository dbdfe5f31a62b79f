"""What is known of the project on a GPU, and may only become less."""

ROUNDED = {"symbol_vector on text": "a GPU has the cell of a recurrent network as one operator, with sums of its own"}
"""Recipes whose numbers are the CPU's to rounding only, and why."""

UPDATE_WAITS: dict[str, tuple[int, str]] = {
    "pipeline/chains/task.py initial_arrays": (4, "starts go to the host, for each chain and lane"),
    "pipeline/chains/task.py move_as_one_batch": (10, "states to the device, results back, for each chain"),
    "pipeline/chains/task.py to_tensors": (20, "context, for each chain, and results, for each lane, to the device"),
    "pipeline/data/dataset.py Dataset.batch": (8, "labels and places of items"),
    "pipeline/data/encoding.py _read_counts": (4, "items, once for the chains and once for the losses"),
    "pipeline/data/encoding.py _read_images": (4, "the same"),
    "pipeline/data/encoding.py _read_sentences": (8, "the same, with their lengths"),
    "pipeline/data/encoding.py _read_vectors": (4, "the same"),
    "pipeline/energies/entropy.py nearest_neighbour_entropy": (2, "a constant that is made on the host, for each lane"),
    "pipeline/nets/position_losses.py isometry_loss": (4, "near pairs are selected by a mask"),
    "pipeline/nets/symbols.py classification_metrics": (2, "whether all items have a label"),
    "pipeline/nets/symbols.py symbol_usage": (2, "a constant that is made on the host"),
    "pipeline/nets/text.py SentenceDecoder.locate_words": (
        8,
        "the longest sentence and the places of words, for each loss and target",
    ),
    "pipeline/nets/text.py SentenceEncoder.forward": (2, "the longest sentence of the batch"),
    "pipeline/nets/weights.py flatten": (3, "weights go to the pool, and the test reads them"),
    "pipeline/recipes/grid_cells.py GridCells.losses": (2, "scales are made on the host"),
    "pipeline/recipes/short_run_inference.py ShortRunInference.sampler": (
        4,
        "the step size is a setting of the kernel",
    ),
    "pipeline/recipes/simple_cells.py SimpleCells.draw_places": (2, "the room for patches is made on the host"),
    "pipeline/recipes/simple_cells.py SimpleCells.losses": (2, "weights of pixels are made on the host"),
    "pipeline/training/learner.py Learner.update": (2, "metrics and flags; and whether weights are finite"),
    "pipeline/training/learner.py _stack": (2, "metrics that the host has computed, all at once for each lane"),
    "pipeline/training/worker.py Worker._task": (8, "the context of chains goes to the host"),
}
"""Outside of samplers: what waits in an update of two lanes, how often at most over the recipes, and why."""

EVALUATION_WAITS: dict[str, str] = {
    "pipeline/chains/task.py initial_arrays": "starts go to the host",
    "pipeline/chains/task.py move_as_one_batch": "states to the device, and results back",
    "pipeline/chains/task.py to_tensors": "the context of chains goes to the device",
    "pipeline/data/dataset.py Dataset.batch": "labels and places of items",
    "pipeline/data/encoding.py _read_counts": "items",
    "pipeline/data/encoding.py _read_images": "items",
    "pipeline/data/encoding.py _read_sentences": "items",
    "pipeline/data/encoding.py _read_vectors": "items",
    "pipeline/evaluation/judges/classifier.py trained_classifier": "the classifier, which learned on the CPU",
    "pipeline/evaluation/judges/features.py _apply_classifier": "a piece to the device, its features back",
    "pipeline/evaluation/judges/language_model.py _batch": "sentences to the device",
    "pipeline/evaluation/judges/language_model.py perplexity": "nats of sentences",
    "pipeline/evaluation/judges/language_model.py real_language_model": "the language model, which learned on the CPU",
    "pipeline/evaluation/metrics/annealing.py posterior_integrals": "items by their numbers",
    "pipeline/evaluation/metrics/annealing.py tune_annealing": "an acceptance rate for each temperature",
    "pipeline/evaluation/metrics/grid_maps.py describe_blocks": "maps, which are described on the host",
    "pipeline/evaluation/metrics/gridness.py isotropic_noise": "noise, the same",
    "pipeline/evaluation/metrics/importance_sampling.py anneal": "an acceptance rate",
    "pipeline/evaluation/metrics/log_likelihood.py _energies": "energies of items go to the host",
    "pipeline/evaluation/metrics/perplexity.py sentence_nll": "nats of items",
    "pipeline/evaluation/metrics/quadrature.py inspect_pairs": "filters, which are described on the host",
    "pipeline/nets/symbols.py classification_metrics": "whether all items have a label",
    "pipeline/nets/text.py SentenceDecoder.locate_words": "the longest sentence, and the places of words",
    "pipeline/nets/text.py SentenceDecoder.sample": "whether every sentence has ended",
    "pipeline/nets/text.py SentenceEncoder.forward": "the longest sentence of the batch",
    "pipeline/nets/weights.py flatten": "weights go to the pool",
    "pipeline/recipe.py init_networks": "networks are made on the host",
    "pipeline/recipes/short_run_inference.py ShortRunInference.sampler": "the step size is a setting of the kernel",
    "pipeline/runs/snapshot.py _at": "weights are read from the checkpoint",
    "pipeline/samplers/hmc.py warm_up": "the acceptance rate of each round",
    "pipeline/sampling/draw.py _fresh_states": "items that chains start from go to the host",
    "pipeline/sampling/draw.py decode_states": "states to the device, data back",
    "pipeline/sampling/posterior.py item_metrics": "metrics of items go to the host",
    "pipeline/sampling/posterior.py posterior_tasks": "the context of chains goes to the host",
}
"""What waits in an evaluation of every metric, and why."""
