#!/usr/bin/env bash
# Sums of narrow floats in NumPy (ml_dtypes 0.6.0, NumPy 2.4.6, seen on x86-64 Linux).
#
# Behaviour: `sum` and `mean` of ml_dtypes' bfloat16 add one element after another in bfloat16, so that they stop growing
# at 256; `dot` and `@` of the same arrays accumulate in float32. float16, of the same width, is right in all of them.
# Expected by analogy with float16, whose mean NumPy documents as computed with float32 intermediates. That of other types
# is computed in the precision of the input, which for bfloat16 means a sum of 8 bits.
# Why it matters: a reference softmax denominator computed so is wrong by an order of magnitude, silently.
# Cure: `x.sum(dtype=numpy.float32)`.
# Source: https://numpy.org/doc/stable/reference/generated/numpy.mean.html (Notes);
#         https://github.com/jax-ml/ml_dtypes, the types' README.
# Seen:   bfloat16: sum 256, mean 0.0625, dot 4096, sum in float32 4096; fp8 e4m3: sum of 100 ones 16, dot 96
#         float16:  sum 4096, mean 1, dot 4096
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install ml_dtypes==0.6.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import ml_dtypes
import numpy as np


def seen(kind, count):
    ones = np.ones(count, kind)
    values = (ones.sum(), ones.mean(), np.dot(ones, ones), ones.sum(dtype=np.float32))
    return tuple(float(value) for value in values)


found = {
    "bfloat16": seen(ml_dtypes.bfloat16, 4096),
    "float16": seen(np.float16, 4096),
    "float8_e4m3fn": seen(ml_dtypes.float8_e4m3fn, 100),
}
for name, values in found.items():
    print(name, "sum %g, mean %g, dot %g, sum in float32 %g" % values)
assert found == {
    "bfloat16": (256.0, 0.0625, 4096.0, 4096.0),
    "float16": (4096.0, 1.0, 4096.0, 4096.0),
    # 100 lies between 96 and 104, and goes to the even one: the dot product is right to its last bit.
    "float8_e4m3fn": (16.0, 0.15625, 96.0, 100.0),
}, "another behaviour"
PYTHON
