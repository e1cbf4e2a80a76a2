//! Policies of a server by hand.

use einflow_serving::offload::{
    room::Room,
    serve::{
        policy::{Came, Limits, Policy, Preempted, Request, StaticBatching, Vllm},
        trace::Alike,
    },
    times::Load,
};
use proptest::prelude::*;

use super::load;

fn limits() -> Limits {
    Limits {
        batches: 1,
        sequences: 4,
        step_tokens: 8,
        block: 4,
        stores: vec![6],
        replicas: Some(1),
        preempted: Preempted::Recomputes,
        reserve: false,
        whole_prompts: false,
        reuse: false,
        ahead: false,
        room: Room::default(),
    }
}

/// A request that comes without a cache.
fn prompt(tokens: u64, wanted: u64) -> Request {
    Request {
        tokens,
        cached: 0,
        wanted,
        ..Request::default()
    }
}

/// The next iteration of the only batch; nothing where nobody can run.
fn step(server: &mut dyn Policy) -> Load {
    let mut next = server.next(&[0]);
    next.loads
        .pop()
        .map_or_else(Load::default, |(_, load)| load)
}

fn came(request: usize, last: bool) -> Came {
    Came {
        request,
        count: 1,
        last,
    }
}

#[test]
fn chunks_and_decodes_share_a_step() {
    let mut server = Vllm::new(limits());
    server.arrive(0, prompt(11, 3));
    server.arrive(1, prompt(2, 2));
    // Eight of eleven tokens; nothing is left for the second.
    assert_eq!(step(&mut server), load(&[], &[(8, 0)], 0));
    assert_eq!(server.ended(0), []);
    // The other three, and the second's two: both make a token.
    assert_eq!(step(&mut server), load(&[], &[(3, 8), (2, 0)], 2));
    assert_eq!(server.ended(0), [came(0, false), came(1, false)]);
    // One each, over 12 tokens and 3; the second has its two.
    assert_eq!(step(&mut server), load(&[12, 3], &[], 2));
    assert_eq!(server.ended(0), [came(0, false), came(1, true)]);
    assert_eq!(step(&mut server), load(&[13], &[], 1));
    assert_eq!(server.ended(0), [came(0, true)]);
    assert!(!server.waits());
    assert_eq!((server.running(0), server.fullest()), (0, 0));
}

#[test]
fn the_newest_is_preempted_and_computes_again() {
    let mut server = Vllm::new(Limits {
        step_tokens: 16,
        stores: vec![4],
        ..limits()
    });
    server.arrive(0, prompt(8, 3));
    server.arrive(1, prompt(7, 3));
    // Two blocks each: all four.
    assert_eq!(step(&mut server), load(&[], &[(8, 0), (7, 0)], 2));
    server.ended(0);
    // The first needs a third block: the second gives its two back and waits.
    let next = server.next(&[0]);
    assert_eq!(next.loads, [(0, load(&[9], &[], 1))]);
    assert_eq!((next.preempted, server.running(0)), (vec![(1, 7)], 1));
    server.ended(0);
    // It does not come back for one block of the two that it needs.
    assert_eq!(step(&mut server), load(&[10], &[], 1));
    assert_eq!(server.ended(0), [came(0, true)]);
    // Its prompt and the token that it had are computed again.
    assert_eq!(step(&mut server), load(&[], &[(8, 0)], 1));
    server.ended(0);
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    assert_eq!(server.ended(0), [came(1, true)]);
}

#[test]
fn a_preempted_request_finds_what_nobody_took() {
    let mut server = Vllm::new(Limits {
        step_tokens: 16,
        stores: vec![4],
        reuse: true,
        ..limits()
    });
    server.arrive(0, prompt(8, 3));
    server.arrive(1, prompt(7, 3));
    step(&mut server);
    server.ended(0);
    // The second gives its two back, the last first: that is the one that the first takes.
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    server.ended(0);
    step(&mut server);
    assert_eq!(server.ended(0), [came(0, true)]);
    // Its first block of four tokens is still there; the other four are computed again.
    assert_eq!(step(&mut server), load(&[], &[(4, 4)], 1));
    server.ended(0);
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    assert_eq!(server.ended(0), [came(1, true)]);
}

/// Blocks of four tokens. Two prompts of nine begin with the same two blocks: the second holds those of the first, of
/// which it computes but its last token, in the same iteration. Both give them back; a third finds them, until a fourth
/// has taken what is left.
#[test]
fn prompts_that_begin_alike_are_computed_once() {
    let alike = |wanted| Request {
        shared: Alike::new([5, 6].into(), 2),
        ..prompt(9, wanted)
    };
    let mut server = Vllm::new(Limits {
        step_tokens: 16,
        stores: vec![6],
        reuse: true,
        ..limits()
    });
    server.arrive(0, alike(1));
    server.arrive(1, alike(2));
    assert_eq!(step(&mut server), load(&[9], &[(9, 0)], 2));
    // Three blocks, and the second's own third.
    assert_eq!((server.fullest(), server.found()), (16, 8));
    assert_eq!(server.ended(0), [came(0, true), came(1, false)]);
    assert_eq!(server.fullest(), 12);
    step(&mut server);
    assert_eq!(server.ended(0), [came(1, true)]);
    assert_eq!(server.fullest(), 0);
    server.arrive(2, alike(1));
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    server.ended(0);
    // Of six blocks two were never taken and two are the thirds of those before: those go first, then the shared ones, the
    // last of them before the first.
    server.arrive(3, prompt(15, 1));
    step(&mut server);
    server.ended(0);
    server.arrive(4, alike(1));
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    server.ended(0);
    server.arrive(5, prompt(24, 1));
    step(&mut server);
    server.ended(0);
    step(&mut server);
    server.ended(0);
    server.arrive(6, alike(1));
    assert_eq!(step(&mut server), load(&[], &[(9, 0)], 1));
}

/// Planned while the iteration before it runs: who comes meanwhile is in the one after it; room is given back after the
/// iteration that makes the last token, for the next but one; nobody is computed beyond its last token.
#[test]
fn iterations_are_planned_ahead() {
    let mut server = Vllm::new(Limits {
        step_tokens: 16,
        stores: vec![3],
        ahead: true,
        ..limits()
    });
    server.arrive(0, prompt(4, 3));
    let next = server.next(&[0]);
    assert_eq!(next.loads, [(0, load(&[], &[(4, 0)], 1))]);
    assert_eq!(next.ahead, [0]);
    server.arrive(1, prompt(7, 1));
    assert_eq!(server.ended(0), [came(0, false)]);
    // Two blocks are held, one is free: the second has to wait for two, and then for the plan after the one under way.
    assert_eq!(step(&mut server), load(&[5], &[], 1));
    assert_eq!(server.ended(0), [came(0, false)]);
    let next = server.next(&[0]);
    assert_eq!(next.loads, [(0, load(&[6], &[], 1))]);
    // The first one's last token is on its way: nothing follows.
    assert_eq!(next.ahead, [] as [usize; 0]);
    assert_eq!(server.ended(0), [came(0, true)]);
    assert_eq!(step(&mut server), load(&[], &[(7, 0)], 1));
    assert_eq!(server.ended(0), [came(1, true)]);
    assert!(!server.waits() && server.running(0) == 0);
}

/// A request that gives way while its token is on its way keeps the token; if it was the last, it is done.
#[test]
fn tokens_on_their_way_arrive() {
    let mut server = Vllm::new(Limits {
        step_tokens: 16,
        stores: vec![4],
        ahead: true,
        ..limits()
    });
    server.arrive(0, prompt(8, 3));
    server.arrive(1, prompt(7, 1));
    // While the prompts run the first one's next token is planned: a third block, which the second has to give.
    let next = server.next(&[0]);
    assert_eq!(next.loads, [(0, load(&[], &[(8, 0), (7, 0)], 2))]);
    assert_eq!(next.preempted, [(1, 7)]);
    assert_eq!(server.ended(0), [came(0, false), came(1, true)]);
    assert_eq!(step(&mut server), load(&[9], &[], 1));
    server.ended(0);
    assert_eq!(step(&mut server), load(&[10], &[], 1));
    assert_eq!(server.ended(0), [came(0, true)]);
    assert!(!server.waits());
}

/// Two batches in flight, each with its own store: requests go to the smaller batch.
#[test]
fn batches_in_flight_stay_alike() {
    let mut server = Vllm::new(Limits {
        batches: 2,
        step_tokens: u64::MAX,
        block: 1,
        stores: vec![100, 100],
        replicas: Some(2),
        ..limits()
    });
    let cached = Request {
        tokens: 11,
        cached: 10,
        wanted: 5,
        ..Request::default()
    };
    for request in 0..5 {
        server.arrive(request, cached.clone());
    }
    let next = server.next(&[0, 1]);
    assert_eq!((server.running(0), server.running(1)), (3, 2));
    assert_eq!(next.loads[0], (0, load(&[11; 3], &[], 3)));
    assert_eq!(next.loads[1], (1, load(&[11; 2], &[], 2)));
    assert_eq!(server.fullest(), 33);
}

/// The next batch waits until the longest of this one is done; whoever is done before is padding.
#[test]
fn a_static_batch_ends_with_its_longest() {
    let mut server = StaticBatching::new(Limits {
        sequences: 2,
        step_tokens: 8,
        ..limits()
    });
    server.arrive(0, prompt(6, 1));
    server.arrive(1, prompt(6, 3));
    server.arrive(2, prompt(2, 1));
    // Eight tokens: the first prompt, and two tokens of the second.
    assert_eq!(step(&mut server), load(&[], &[(6, 0), (2, 0)], 1));
    assert_eq!(server.ended(0), [came(0, true)]);
    assert_eq!(step(&mut server), load(&[], &[(4, 2)], 1));
    assert_eq!(server.ended(0), [came(1, false)]);
    // The second over 7 and 8 tokens, the first's 6 and the one that is computed in vain beside it.
    for tokens in [7, 8] {
        assert!(server.waits());
        assert_eq!(step(&mut server), load(&[tokens, 7], &[], 1));
        assert_eq!(server.ended(0), [came(1, tokens == 8)]);
    }
    assert_eq!(step(&mut server), load(&[], &[(2, 0)], 1));
    assert_eq!(server.ended(0), [came(2, true)]);
    assert_eq!((server.running(0), server.waits()), (0, false));
}

/// Room for final lengths is set aside: of two requests of 12 tokens in the end, six blocks of four hold both, five one.
#[test]
fn a_static_batch_sets_room_aside() {
    for (blocks, together) in [(6, 2), (5, 1)] {
        let mut server = StaticBatching::new(Limits {
            stores: vec![blocks],
            ..limits()
        });
        server.arrive(0, prompt(4, 9));
        server.arrive(1, prompt(4, 9));
        step(&mut server);
        assert_eq!(server.running(0), together);
        assert_eq!(server.fullest(), 12 * together);
    }
}

/// Both policies make every token, within their limits.
fn every_token(server: &mut dyn Policy, requests: &[(u64, u64)], limits: &Limits) {
    let mut made = vec![0; requests.len()];
    for (number, (tokens, wanted)) in requests.iter().enumerate() {
        server.arrive(number, prompt(*tokens, *wanted));
    }
    let mut steps = 0;
    while server.waits() || server.running(0) > 0 {
        let load = step(server);
        let chunks: u64 = load.chunks.iter().map(|c| c.0).sum();
        assert!(chunks <= limits.step_tokens);
        assert!(server.running(0) <= limits.sequences as u64);
        assert!(server.fullest() <= limits.stores[0] * limits.block);
        for came in server.ended(0) {
            made[came.request] += 1;
            assert_eq!(came.last, made[came.request] == requests[came.request].1);
        }
        steps += 1;
        assert!(steps < 100_000);
    }
    assert_eq!(server.fullest(), 0);
    for (made, (_, wanted)) in made.iter().zip(requests) {
        assert_eq!(made, wanted);
    }
}

proptest! {
    #[test]
    fn every_token_is_made(
        requests in prop::collection::vec((1u64..30, 1u64..20), 1..30),
        step_tokens in 1u64..40,
        sequences in 1usize..8,
        block in 1u64..6,
        reuse: bool,
        reserve: bool,
        whole_prompts: bool,
    ) {
        let limits = Limits {
            step_tokens,
            sequences,
            block,
            stores: vec![50u64.div_ceil(block)],
            reuse,
            reserve,
            whole_prompts,
            ..limits()
        };
        every_token(&mut Vllm::new(limits.clone()), &requests, &limits);
        every_token(&mut StaticBatching::new(limits.clone()), &requests, &limits);
    }
}
