//! A server's scheduler by hand, and replays that lose nothing.

#![allow(clippy::unwrap_used)]

use einflow_serving::{
    device::Answerer,
    replay::{
        Arrival, Policy, Scheduler, replay,
        schedule::Part,
        step::{ServerTables, StepModel},
        trace,
    },
};
use einflow_spec::{Source, quantity::Seconds};
use einflow_workloads::models::Model;
use proptest::prelude::*;

const POLICY: Policy = Policy {
    tokens: 8,
    sequences: 4,
    block: 4,
    blocks: 6,
    reuse: false,
};

fn part(request: usize, tokens: u64, before: u64, samples: bool) -> Part {
    Part {
        request,
        tokens,
        before,
        samples,
    }
}

#[test]
fn chunks_and_decodes_share_a_step() {
    let mut server = Scheduler::new(POLICY);
    assert!(server.arrive(11, 3));
    assert!(server.arrive(2, 2));
    // Eight of eleven tokens; nothing is left for the second.
    let parts = server.step();
    assert_eq!(parts, [part(0, 8, 0, false)]);
    assert_eq!(server.done(&parts), []);
    // The other three, and the second's two: both make a token.
    let parts = server.step();
    assert_eq!(parts, [part(0, 3, 8, true), part(1, 2, 0, true)]);
    assert_eq!(server.done(&parts), [(0, false), (1, false)]);
    // One each; the second has its two.
    let parts = server.step();
    assert_eq!(parts, [part(0, 1, 11, true), part(1, 1, 2, true)]);
    assert_eq!(server.done(&parts), [(0, false), (1, true)]);
    let parts = server.step();
    assert_eq!(parts, [part(0, 1, 12, true)]);
    assert_eq!(server.done(&parts), [(0, true)]);
    assert!(server.idle());
    assert_eq!(server.preemptions, 0);
}

#[test]
fn the_newest_is_preempted_and_computes_again() {
    let mut server = Scheduler::new(Policy {
        tokens: 16,
        blocks: 4,
        ..POLICY
    });
    assert!(server.arrive(8, 3));
    assert!(server.arrive(7, 3));
    // Two blocks each: all four.
    let parts = server.step();
    assert_eq!(parts, [part(0, 8, 0, true), part(1, 7, 0, true)]);
    server.done(&parts);
    // The first needs a third block: the second gives its two back and waits.
    let parts = server.step();
    assert_eq!(parts, [part(0, 1, 8, true)]);
    assert_eq!((server.preemptions, server.running()), (1, 1));
    server.done(&parts);
    // It does not come back for one block of the two that it needs.
    let parts = server.step();
    assert_eq!(parts, [part(0, 1, 9, true)]);
    assert_eq!(server.done(&parts), [(0, true)]);
    // Its prompt and the token that it had are computed again.
    let parts = server.step();
    assert_eq!(parts, [part(1, 8, 0, true)]);
    server.done(&parts);
    let parts = server.step();
    assert_eq!(parts, [part(1, 1, 8, true)]);
    assert_eq!(server.done(&parts), [(1, true)]);
    assert!(server.idle());
}

#[test]
fn a_preempted_request_finds_what_nobody_took() {
    let mut server = Scheduler::new(Policy {
        tokens: 16,
        blocks: 4,
        reuse: true,
        ..POLICY
    });
    assert!(server.arrive(8, 3));
    assert!(server.arrive(7, 3));
    let parts = server.step();
    server.done(&parts);
    // The second gives its two back, the last first: that is the one that the first takes.
    let parts = server.step();
    assert_eq!(parts, [part(0, 1, 8, true)]);
    server.done(&parts);
    let parts = server.step();
    assert_eq!(server.done(&parts), [(0, true)]);
    // Its first block of four tokens is still there; the other four are computed again.
    let parts = server.step();
    assert_eq!(parts, [part(1, 4, 4, true)]);
    server.done(&parts);
    let parts = server.step();
    assert_eq!(parts, [part(1, 1, 8, true)]);
    assert_eq!(server.done(&parts), [(1, true)]);
}

#[test]
fn what_never_fits_is_refused() {
    let mut server = Scheduler::new(POLICY);
    // 24 tokens of cache: the last token made is never read.
    assert!(server.arrive(20, 5));
    assert!(!server.arrive(20, 6));
}

proptest! {
    #[test]
    fn every_token_is_made(
        requests in prop::collection::vec((0u64..40, 1u64..30, 1u64..20), 1..30),
        tokens in 1u64..40,
        sequences in 1usize..8,
        block in 1u64..6,
        reuse: bool,
    ) {
        let policy = Policy { tokens, sequences, block, blocks: 50u64.div_ceil(block), reuse };
        let mut server = Scheduler::new(policy);
        let mut made = vec![0; requests.len()];
        for (_, prompt, wanted) in &requests {
            prop_assert!(server.arrive(*prompt, *wanted));
        }
        let mut steps = 0;
        while !server.idle() {
            let parts = server.step();
            prop_assert!(parts.iter().map(|p| p.tokens).sum::<u64>() <= tokens);
            prop_assert!(server.running() <= sequences);
            for (request, last) in server.done(&parts) {
                made[request] += 1;
                prop_assert_eq!(last, made[request] == requests[request].2);
            }
            steps += 1;
            prop_assert!(steps < 100_000);
        }
        for (made, (_, _, wanted)) in made.iter().zip(&requests) {
            prop_assert_eq!(made, wanted);
        }
    }
}

fn tables() -> StepModel {
    let tables = ServerTables::load("data/serving/rtx4090-llama3.1-8b", 32).unwrap();
    StepModel::Measured(Box::new(tables))
}

/// The tables' own points, added up by hand.
#[test]
fn a_step_is_the_sum_of_its_tables() {
    let one = |before| Part {
        request: 0,
        tokens: 1,
        before,
        samples: true,
    };
    // 32 sequences of 1024 tokens.
    let parts = vec![one(1023); 32];
    let block = 2.0 * 2.11717 + 60.8173 + 2.43233 + 43.411 + 271.747 + 3.00767 + 141.943 + 181.391;
    let expected = 32.0 * block + 2.54933 + 2.48533 + 1190.84 + sampler(32);
    let found = tables().time(&parts).unwrap().0 * 1e6;
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}

/// Two chunks of 512 take what one takes alone, and what the other adds to the smallest launch; one of 1024 takes more.
#[test]
fn chunks_of_a_step_are_apart() {
    let chunk = |tokens| Part {
        request: 0,
        tokens,
        before: 0,
        samples: false,
    };
    let model = tables();
    let us = |parts: &[Part]| model.time(parts).unwrap().0 * 1e6;
    let apart = us(&[chunk(512), chunk(512)]) - us(&[chunk(1024)]);
    let expected = 32.0 * (41.0747 + (41.0747 - 9.546) - 108.24);
    assert!((apart / expected - 1.0).abs() < 1e-6, "{apart} {expected}");
}

/// The sampler's measured time.
fn sampler(sequences: u64) -> f64 {
    let text = include_str!("../../validation/data/serving/rtx4090-llama3.1-8b/per_sequence.csv");
    let row = format!("sampler,{sequences},");
    let line = text.lines().find_map(|l| l.strip_prefix(&row));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn a_replay_by_hand() {
    let text = "arrival_s,prompt_tokens,generated_tokens\n1,16,1\n5,16,2\n";
    let requests = trace::read(&Source::new("t.csv", text)).unwrap();
    let policy = Policy {
        tokens: 2048,
        sequences: 256,
        block: 16,
        blocks: 100,
        reuse: true,
    };
    let model = tables();
    let overhead = Seconds(0.25);
    let found = replay(&requests, policy, &model, overhead).unwrap();
    let prompt = Part {
        request: 0,
        tokens: 16,
        before: 0,
        samples: true,
    };
    let next = Part {
        request: 1,
        tokens: 1,
        before: 16,
        samples: true,
    };
    let first = model.time(&[prompt]).unwrap().0 + 0.25;
    let second = model.time(&[next]).unwrap().0 + 0.25;
    let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
    close(found.served[0].first_token.0, first);
    close(found.served[0].finish.0, 1.0 + first);
    assert_eq!(found.served[0].per_token, None);
    close(found.served[1].finish.0, 5.0 + first + second);
    close(found.served[1].per_token.unwrap().0, second);
    assert_eq!((found.steps, found.preemptions), (3, 0));
}

/// A device without a server's tables takes its kernels; a longer cache takes longer, a larger batch is worth more.
#[test]
fn steps_from_kernels() {
    let answerer = Answerer::load("h100", None).unwrap();
    let model = Model::load("llama3-8b", None).unwrap();
    let model = StepModel::Kernels(Box::new((answerer, model)));
    let parts = |batch: usize, before| {
        vec![
            Part {
                request: 0,
                tokens: 1,
                before,
                samples: true,
            };
            batch
        ]
    };
    let time = |batch, before| model.time(&parts(batch, before)).unwrap().0;
    // 16 GB of weights at 3.35 TB/s take 4.8 ms.
    let least = time(1, 100);
    assert!((0.0048..0.0096).contains(&least), "{least}");
    assert!(time(64, 8000) > 2.0 * time(64, 500));
    assert!(time(64, 500) < 2.0 * least);
    let requests: Vec<Arrival> = (0..20)
        .map(|i| Arrival {
            at: Seconds(f64::from(i)),
            prompt: 500,
            generated: 50,
            row: u64::try_from(i).unwrap() + 2,
        })
        .collect();
    let policy = Policy {
        tokens: 2048,
        sequences: 256,
        block: 16,
        blocks: 1000,
        reuse: true,
    };
    let found = replay(&requests, policy, &model, Seconds(0.0)).unwrap();
    assert_eq!(found.served.len(), 20);
}
