"""CUDA: what this machine has, memory and streams of one GPU, and the kernel that cuts crops."""
