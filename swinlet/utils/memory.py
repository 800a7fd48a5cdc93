"""Telling that memory has run out."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, a GPU or the CPU has run out of memory; told by name, as the command line must not need torch."""
    is_torch_error = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or is_torch_error
