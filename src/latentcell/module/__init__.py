"""Parts put together into something trainable."""
