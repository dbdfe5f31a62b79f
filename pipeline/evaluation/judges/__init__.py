"""Networks that evaluation compares data by: classifiers, Inception-v3, SqueezeNet, language models."""
