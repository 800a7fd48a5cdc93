"""What a .pth or .safetensors file may hold, checked before torch or safetensors looks at it.

Both libraries run no code from a file, but believe what it says of sizes. An archive is unpacked and packed again, so
that torch sees what was checked; and of what a pickle may name, only what weights need is let through.
"""

import io
import json
import pickle
import pickletools
import zipfile
from typing import Any, BinaryIO, cast

# torch allows more, among it constructors that take any size (torch.FloatTensor, bytearray) or any time (Counter).
_REBUILD = ("parameter", "tensor", "tensor_v2", "tensor_v3", "sparse_tensor", "meta_tensor_no_storage")
_ALLOWED = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch.serialization _get_layout",
    "torch.storage UntypedStorage",
    *(f"torch._utils _rebuild_{kind}" for kind in _REBUILD),
}
MAX_TENSORS = 20_000
"""The largest published SwinIR has about 1,200; with an optimiser's moments a few times as many."""

MAX_OPERATIONS = 100 * MAX_TENSORS  # about 60 for each tensor
_MAX_TUPLE = 10_000  # values in a tuple, those of tuples inside it counted as often as they appear
_MAX_HEADER = 16 << 20  # bytes: about 100 for each tensor


def checked_pth(content: bytes) -> io.BytesIO:
    """A file of ``torch.save``, for ``torch.load``.

    Raises:
        pickle.UnpicklingError: it names what weights do not need, or is built to take time or memory.
        zipfile.BadZipFile, ValueError, ...: it is damaged, in many ways.
    """
    if content[:4] != b"PK\3\4":
        file = io.BytesIO(content)
        for _ in range(5):  # magic number, protocol, system, content, keys; then come the values
            _check_pickle(file)
            if file.tell() == len(content):
                break
        return io.BytesIO(content)
    if content.count(b"PK\1\2") > MAX_TENSORS:
        raise pickle.UnpicklingError(f"it has more than {MAX_TENSORS:,} entries")
    repacked = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(repacked, "w") as checked:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise pickle.UnpicklingError("its archive has two entries of one name")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise pickle.UnpicklingError("its archive is compressed, which torch.save never does")
        if sum(entry.file_size for entry in entries) > len(content):
            raise pickle.UnpicklingError("its entries claim to be larger than the file")
        for entry in entries:
            data = archive.read(entry)
            if entry.filename.endswith(".pkl"):
                _check_pickle(io.BytesIO(data))
            checked.writestr(zipfile.ZipInfo(entry.filename), data)
    repacked.seek(0)
    return repacked


def _check_pickle(file: BinaryIO) -> None:
    """Go through a pickle without carrying anything out."""
    sizes: list[int] = []  # of what is on the unpickler's stack: 1, or what a tuple holds
    outer: list[list[int]] = []
    memo: dict[Any, int] = {}
    for count, (operation, argument, _) in enumerate(pickletools.genops(file)):
        if count > MAX_OPERATIONS:
            raise pickle.UnpicklingError(f"it has more than {MAX_OPERATIONS:,} objects")
        name, before = operation.name, operation.stack_before
        if name == "GLOBAL" and not _is_allowed(str(argument)):
            raise pickle.UnpicklingError("GLOBAL " + str(argument).replace(" ", "."))
        if name == "MARK":
            outer.append(sizes)
            sizes = []
        elif name.endswith("GET"):
            sizes.append(memo[argument])
        elif name.endswith("PUT"):
            memo[argument] = sizes[-1]
        else:
            taken: list[int] = []
            if pickletools.markobject in before:
                taken, sizes = sizes, outer.pop()
                before = before[: before.index(pickletools.markobject)]
            for _ in before:
                taken.append(sizes.pop())
            size = 1 + sum(taken) if name.startswith("TUPLE") else 1
            # A tuple that holds one tuple twice, and so on, takes for ever to compare or to print.
            if size > _MAX_TUPLE:
                raise pickle.UnpicklingError(f"it holds a tuple of more than {_MAX_TUPLE:,} values")
            sizes += [size] * len(operation.stack_after)


def _is_allowed(reference: str) -> bool:
    module, _, name = reference.partition(" ")
    # Storages and dtypes: torch refuses all else of this module but the tensor classes, which take any size.
    return reference in _ALLOWED or (module in ("torch", "torch.cuda") and not name.endswith("Tensor"))


def safetensors_header(file: BinaryIO, size: int) -> dict[str, Any]:
    """The header of a safetensors file: tensor names to their dtype, shape and place, and ``__metadata__``.

    Args:
        file: read up to the end of the header.
        size: of the whole file in bytes.

    Raises:
        ValueError: it is damaged, or too large.
        RecursionError: thousands of brackets.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise ValueError("it is truncated, or of another format")
    if length > _MAX_HEADER:
        raise ValueError(f"its header has more than {_MAX_HEADER:,} bytes")
    header: Any = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is damaged")
    return cast("dict[str, Any]", header)
