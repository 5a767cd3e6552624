"""What else shows a run: W&B, TensorBoard. The files of the run folder are the truth; loggers send what they say."""
