"""What runs in the processes of NVIDIA FLARE, and what fedpipe asks of them; the only code that imports nvflare."""
