#!/usr/bin/env bash
# The log of DRAM times in AttAcc's simulator (scale-snu/attacc_simulator at c600051, pandas 3.1.1, seen on x86-64 Linux).
#
# Behaviour: the README's first example of GPUs with AttAcc takes all of its 127 attention times from `ramulator.out`, a log
#            in the repository that an earlier generator of traces made, with ten times the moves and softmaxes of a head.
#            Nothing runs Ramulator, which need not be there.
# Expected: a log is used for what this code simulated; a clone that was built runs what it built.
# Why it matters: attention of the example, and of every batch whose heads fill an odd number of rounds of 16 channels, is
#                 not that of the published code: its Ramulator takes 3930 cycles for 3 heads of 2049 tokens, the log has
#                 4892 (0.36 ms of a step in place of 0.29). Of a whole step that is 0.3 %.
# Cure: remove `ramulator.out` before the first run.
# Source: the last commit takes softmax and moves out of the loop over rounds (pim_ramulator_src/trace_gen), the log is of
#         the first; src/ramulator_wrapper.py, `output`, looks for a row there first.
# Seen:   no Ramulator: 58.55 tokens/s; 3 heads of 2049 tokens: 2160 moves and 30 softmaxes in the log, 216 and 3 in the
#         trace; 188 heads (12 rounds): 13524 and 188 in both
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
git clone --quiet https://github.com/scale-snu/attacc_simulator "$folder/simulator"
cd "$folder/simulator"
git checkout --quiet c60005143a6b492d7ef83231723386478b59a506
python3 -m venv "$folder/env"
"$folder/env/bin/pip" --quiet --disable-pip-version-check install pandas==3.1.1
PYTHONPATH=. "$folder/env/bin/python" - <<'PYTHON'
import collections
import csv
import subprocess
import sys

example = "--system dgx-attacc --gpu A100a --ngpu 8 --model GPT-175B --lin 2048 --lout 128 --batch 1 --pim bank"
command = [sys.executable, "main.py", *example.split(), "--powerlimit", "--ffopt", "--pipeopt"]
done = subprocess.run(command, check=True, capture_output=True, text=True)
print(done.stdout.splitlines()[-1].strip(), "without Ramulator")
assert not done.stderr, "another behaviour"

with open("ramulator.out") as file:
    rows = list(csv.DictReader(file))


def logged(heads):
    key = {"L": "2049", "nhead": str(heads), "dhead": "128", "dbyte": "2", "pim_type": "BA", "power_constraint": "True"}
    row = next(row for row in rows if all(row[name] == value for name, value in key.items()))
    return int(row["mac"]), int(row["mvgb"]), int(row["softmax"])


def traced(heads):
    options = ["--nhead", str(heads), "--seqlen", "2049", "--output", "a.trace"]
    generator = "pim_ramulator_src/trace_gen/gen_trace_attacc_bank.py"
    subprocess.run([sys.executable, generator, *options], check=True, stdout=subprocess.DEVNULL)
    with open("a.trace") as file:
        count = collections.Counter(line.split()[0] for line in file)
    return count["PIM_MAC_AB"], count["PIM_MV_GB"], count["PIM_SFM"]


for heads in (3, 188):
    print(heads, "heads: multiplications, moves, softmaxes", logged(heads), "in the log,", traced(heads), "in the trace")
assert (logged(3), traced(3)) == ((1548, 2160, 30), (1548, 216, 3)), "another behaviour"
assert logged(188) == traced(188) == (98056, 13524, 188), "another behaviour"
PYTHON
