"""llama.cpp: its server, `llama-server`, with GGUF models."""
