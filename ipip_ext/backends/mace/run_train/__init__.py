"""Fine-tuning by MACE's own `run_train`: what it is told, its process, and that process's far side."""
