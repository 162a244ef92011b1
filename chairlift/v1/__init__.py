"""The generated stubs of proto/chairlift/v1. Nothing here is written by hand: `make proto` writes it anew."""
