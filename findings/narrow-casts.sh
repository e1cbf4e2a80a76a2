#!/usr/bin/env bash
# Casts to narrow floats (ml_dtypes 0.6.0, NumPy 2.4.6, seen on x86-64 Linux).
#
# Behaviour 1: a cast of float64 to bfloat16 or fp8 goes through float32, and so rounds twice: a number just above the
# middle of two neighbours goes to the lower one. NumPy's own cast of float64 to float16 rounds once.
# Behaviour 2: fp4 (e2m1) and fp6 (e2m3, e3m2) have no NaN; a cast turns NaN into -0, while infinity becomes the largest
# number. In fp8 e4m3fn, which has NaN and no infinity, infinity and all from 464 on become NaN: nothing saturates.
# Why it matters: a reference that is "rounded to the format" can be off by a whole unit in the last place from one that
# rounds once; and a NaN that reaches an fp4 tensor disappears.
# Source: https://github.com/jax-ml/ml_dtypes (README, the types).
# Seen:   1 + 2^-8 + 2^-40 to bfloat16: 1 (nearest: 1.0078125); 1 + 2^-4 + 2^-40 to e4m3fn: 1 (nearest: 1.125)
#         1 + 2^-11 + 2^-40 to float16: 1.0009765625, the nearest
#         NaN to e2m1, e2m3, e3m2: -0; infinity: 6, 7.5, 28; infinity, 465 and 464 to e4m3fn: NaN, NaN, 448
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install ml_dtypes==0.6.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import math
from fractions import Fraction

import ml_dtypes as narrow
import numpy as np


def cast(value, kind, wide=np.float64):
    return float(np.array([value], wide).astype(kind)[0])


def nearest(value, one_up):
    """Which of 1 and its neighbour above is nearer, in exact arithmetic."""
    return min(1.0, one_up, key=lambda near: abs(Fraction(near) - Fraction(value)))


for kind, bits in [(narrow.bfloat16, 7), (narrow.float8_e4m3fn, 3)]:
    one_up = 1 + 2.0**-bits
    value = 1 + 2.0 ** -(bits + 1) + 2.0**-40
    found, right = cast(value, kind), nearest(value, one_up)
    print(f"{value!r} to {kind.__name__}: {found} (nearest: {right})")
    assert (found, right) == (1.0, one_up), "another behaviour"
value = 1 + 2.0**-11 + 2.0**-40
assert cast(value, np.float16) == nearest(value, 1 + 2.0**-10), "another behaviour"

for name, largest in [("float4_e2m1fn", 6.0), ("float6_e2m3fn", 7.5), ("float6_e3m2fn", 28.0)]:
    kind = getattr(narrow, name)
    nan, infinity = cast(math.nan, kind, np.float32), cast(math.inf, kind, np.float32)
    print(f"{name}: NaN becomes {nan}, infinity {infinity}")
    assert nan == 0.0 and math.copysign(1, nan) == -1.0 and infinity == largest, "another behaviour"
found = [cast(value, narrow.float8_e4m3fn, np.float32) for value in (math.inf, 465.0, 464.0)]
print("float8_e4m3fn: infinity, 465, 464 become", found)
assert math.isnan(found[0]) and math.isnan(found[1]) and found[2] == 448.0, "another behaviour"
PYTHON
