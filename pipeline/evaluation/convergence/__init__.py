"""Whether a run converges: evidence from long chains at a checkpoint, the verdict, and the observer that reports it."""
