"""Fine-tuning: `transfer` takes weights over, `rates` says how fast layers learn, `lora` adapts them."""
