"""What else shows a run while it goes on: W&B, TensorBoard. The files of the run folder are the truth; these follow.

Nothing is imported here: `wandb_process` runs in a process of its own, which does not need PyTorch.
"""
