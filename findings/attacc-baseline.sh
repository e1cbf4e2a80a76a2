#!/usr/bin/env bash
# The GPUs of AttAcc's simulator (scale-snu/attacc_simulator at c600051, pandas 3.1.1, seen on x86-64 Linux).
#
# Behaviour: 1. Ten requests make fewer tokens a second than nine: GPT-175B on `--system dgx` 280.0 and 283.1; so do 19
#               and 18, 28 and 27. The cache of one request comes at 12 / 108 of what the memory reaches.
#            2. `--gmemcap` changes no time: GPUs of 1 GB decode 64 requests that need 900 GiB as those of 80 GB do.
#            3. GPUs that do not divide the heads lose the rest: GPT-13B on 16 has 32 heads of 40, and fewer operations.
# Expected: attention of a batch takes what its cache's bytes take, which all multiprocessors share however many heads
#           there are (a cache is split: FlashDecoding); a batch that does not fit is refused; how many GPUs divide the
#           products changes no sum of operations.
# Why it matters: the speed-up of attention offloaded is that over this baseline, whose cache comes at 9 % of the
#           memory's bandwidth with one request, and at 47 % with ten.
# Source: src/devices.py, `_mem_time`: heads times requests over 108, rounded up, scale the bandwidth (`core_utilization`);
#         src/system.py, `simulate`: the memory that is needed goes into a column and is compared with nothing;
#         src/model.py: int(num_heads / tp).
# Seen:   batch 9: 283.12, 10: 279.95, 18: 497.96, 19: 474.06, 27: 643.65, 28: 610.28 tokens/s
#         64 requests: 1010.57 tokens/s with 1 GB and with 80 GB, 900.3 GiB needed
#         GPT-13B, a step: 860.3 GFLOP on 8, 850.0 on 16
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet https://github.com/scale-snu/attacc_simulator "$folder/simulator"
cd "$folder/simulator"
git checkout --quiet c60005143a6b492d7ef83231723386478b59a506
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install pandas==3.1.1
PYTHONPATH=. "$folder/env/bin/python" - <<'PYTHON'
import csv
import subprocess
import sys


def seen(model, batch, *options):
    command = [sys.executable, "main.py", "--system", "dgx", "--model", model, "--lin", "2048", "--lout", "2"]
    subprocess.run(command + ["--batch", str(batch), *options], check=True, stdout=subprocess.DEVNULL)
    with open("output.csv") as file:
        row = next(csv.DictReader(file))
    step = float(row["g_time (ms)"])
    return round(1000 * batch / step, 2), int(row["required_cap"]), float(row["g_flops"])


rates = {batch: seen("GPT-175B", batch)[0] for batch in (9, 10, 18, 19, 27, 28)}
print("tokens/s by batch:", rates)
assert rates == {9: 283.12, 10: 279.95, 18: 497.96, 19: 474.06, 27: 643.65, 28: 610.28}, "another behaviour"

small, large = (seen("GPT-175B", 64, "--gmemcap", size) for size in ("1", "80"))
print("GPUs of 1 and 80 GB, 64 requests:", small[0], large[0], "tokens/s;", round(small[1] / 2**30, 1), "GiB needed")
assert small == large and small[1] > 8 * 80 * 2**30, "another behaviour"

operations = [seen("GPT-13B", 32, "--ngpu", count)[2] for count in ("8", "16")]
print("GFLOP of a step on 8 and 16 GPUs:", [round(value / 1e9, 1) for value in operations])
assert operations[1] < operations[0], "another behaviour"
PYTHON
