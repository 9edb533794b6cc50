"""What XLA makes of decoding: speed, floors, and what compiling costs."""
