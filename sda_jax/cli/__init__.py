"""The commands of `sda-jax`, one a file: they parse, call and print."""
