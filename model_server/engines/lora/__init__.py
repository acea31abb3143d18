"""The engine "lora": trains and serves LoRA adapters of any causal language model folder in Hugging Face format."""
