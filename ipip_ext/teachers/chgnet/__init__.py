"""CHGNet: as it comes, and fine-tuned on the task's labels. Nothing outside of this folder imports `chgnet`."""
