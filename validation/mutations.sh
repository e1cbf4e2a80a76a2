#!/usr/bin/env bash
# Twenty ways to be wrong by a line, each of which a test must notice. Slow (a build for each), and so outside CI:
#
#   validation/mutations.sh          all of them
#   validation/mutations.sh 3 7      the third and the seventh
#
# Works on a copy of what is committed, in a temporary folder. Ends with 1 where a test suite passes a mutation.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$copy/tree"; rm -rf "$copy"' EXIT
git -C "$root" worktree add -q --detach "$copy/tree"
export CARGO_TARGET_DIR="$root/target/mutations" CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=false
cd "$copy/tree"

# mutate NAME FILE OLD NEW TEST...: OLD stands once in FILE; `cargo test TEST...` must fail where NEW stands there.
number=0 survived=0
chosen=" $* "
mutate() {
  number=$((number + 1))
  if [ "$chosen" != "  " ] && [[ "$chosen" != *" $number "* ]]; then return; fi
  local name=$1 file=$2
  OLD=$3 NEW=$4 perl -0pi -e '
    my $count = () = /\Q$ENV{OLD}\E/g;
    die "$ARGV: found $count times: $ENV{OLD}\n" if $count != 1;
    s/\Q$ENV{OLD}\E/$ENV{NEW}/;
  ' "$file"
  # A mutation that does not build proves nothing.
  if git diff --quiet -- "$file" || ! cargo test -q --locked "${@:5}" --no-run >"$copy/log" 2>&1; then
    printf '%2d BROKEN   %s\n' "$number" "$name"
    tail -n 20 "$copy/log"
    survived=$((survived + 1))
  elif timeout 600 cargo test -q --locked "${@:5}" >"$copy/log" 2>&1; then
    printf '%2d SURVIVED %s\n' "$number" "$name"
    survived=$((survived + 1))
  else
    printf '%2d killed   %s\n' "$number" "$name"
  fi
  git checkout -q -- "$file"
}

engine=sim/engine/src
serving=sim/serving/src/offload

mutate "room is free a cycle before the results are written" $engine/events/keeps.rs \
  'end = end.max(at + steps.end() + way.delay + way.burst);' \
  'end = end.max(at + steps.end() + way.delay + way.burst - 1);' \
  -p einflow --test stalls --test naive
mutate "room waits for every reader but the last" $engine/events/keeps.rs \
  'time = time.max(last.map_or(0, |u| u.end));' \
  'time = last.map_or(0, |u| u.end);' \
  -p einflow --test stalls --test naive
mutate "drained data are asked for before they are stored" $engine/events/streams.rs \
  '(last.map_or(0, |u| u.end + stored), from)' \
  '(last.map_or(0, |u| u.end), from)' \
  -p einflow --test stalls --test naive
mutate "a wait for room is called a wait for words" $engine/events/streams.rs \
  'let cause = Cause::Space(plan.tensor, Side::Memory(plan.memory));' \
  'let cause = Cause::Operand(plan.tensor, Side::Memory(plan.memory));' \
  -p einflow --test stalls --test naive
mutate "a channel forgets its latency" $engine/hardware/channel.rs \
  'let first = start + self.latency;' \
  'let first = start;' \
  -p einflow --test stalls --test naive
mutate "a channel rounds bytes down to cycles" $engine/hardware/channel.rs \
  'u64::try_from(cycles.max(1)).ok()' \
  'u64::try_from(cycles.max(2) - 1).ok()' \
  -p einflow --test stalls --test naive
mutate "one more request than outstanding is under way" $engine/hardware/channel.rs \
  'let after = self.under_way.len().checked_sub(limit);' \
  'let after = self.under_way.len().checked_sub(limit + 1);' \
  -p einflow --test stalls --test naive
mutate "one port more than there are" $engine/hardware/ports.rs \
  'taken + own > self.limit' \
  'taken + own > self.limit + 1' \
  -p einflow --test stalls --test naive
mutate "what ended last names another cause" $engine/events/machine.rs \
  'candidate.cause = blocked.unwrap_or(candidate.cause);' \
  'candidate.cause = candidate.cause;' \
  -p einflow --test stalls --test naive
mutate "the account counts waits twice" $engine/cycle/account.rs \
  '*own.entry(cause.activity(mapped)).or_insert(0) += u128::from(*cycles);' \
  '*own.entry(cause.activity(mapped)).or_insert(0) += 2 * u128::from(*cycles);' \
  -p einflow --test cycle
mutate "fast-forward leaves the ports behind" $engine/cycle/jump/repeat.rs \
  'ports.iter_mut().for_each(|p| p.move_on(ahead));' \
  'ports.iter_mut().for_each(|p| p.move_on(0));' \
  -p einflow --test cycle --test naive
mutate "fast-forward goes one iteration too far" $engine/cycle/jump/repeat.rs \
  'state.cursor.shift(program, op, self.at, by * self.times);' \
  'state.cursor.shift(program, op, self.at, by * (self.times + 1));' \
  -p einflow --test cycle --test naive
mutate "the rules for restarted sums change places" mappings/src/count.rs \
  'let fresh = if timeloop { 0 } else { restarted };' \
  'let fresh = if timeloop { restarted } else { 0 };' \
  -p einflow-mappings --test hierarchy
mutate "a drained tile comes back without its first words" mappings/src/count.rs \
  'made.outer.reads = Count::share(returned, share)?;' \
  'made.outer.reads = Count::share(words.distinct, share)?;' \
  -p einflow-mappings --test hierarchy
mutate "a loop that ends with a group changes the word" mappings/src/touches.rs \
  '&& step.saturating_mul(self.count) > unit' \
  '&& step.saturating_mul(self.count) >= unit' \
  -p einflow-mappings --lib touches
mutate "the oldest is preempted" $serving/serve/policy/requests.rs \
  'own.iter().rposition(|r|' \
  'own.iter().position(|r|' \
  -p einflow --test serving
mutate "a preempted request keeps what it computed" $serving/serve/policy/requests.rs \
  'self.state(gone).computed = 0;' \
  'self.state(gone).computed += 0;' \
  -p einflow --test serving
mutate "a block too few for a request that grows" $serving/serve/policy/requests.rs \
  'let needed = (state.computed + tokens).div_ceil(block);' \
  'let needed = (state.computed + tokens) / block;' \
  -p einflow --test serving
mutate "a layer has one reduction over its group" $serving/times/mod.rs \
  '(Operator::AllReduce, p.reduce.times(2)),
            (Operator::FeedForward, p.feed),
            (Operator::Elementwise, p.gate),' \
  '(Operator::AllReduce, p.reduce),
            (Operator::FeedForward, p.feed),
            (Operator::Elementwise, p.gate),' \
  -p einflow --test offload
mutate "a link carries half of the words" $serving/account.rs \
  'totals.links[direction] = totals.links[direction].after(stream.times(n));' \
  'totals.links[direction] = totals.links[direction].after(stream.times(n / 2));' \
  -p einflow --test offload --test offload_pipeline

exit $((survived > 0))
