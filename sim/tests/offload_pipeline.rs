//! The pipeline of batches in flight: what it passes over changes nothing, and simple cases come out as by hand.

use einflow_serving::offload::{
    pipeline::{Iteration, Layers, Message, Pipeline, Shape, Span, Unit},
    time::Ps,
};

/// A seeded generator: the same cases everywhere.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn layers(draw: &mut Draw) -> Layers {
    let most = [5, 50, 1000][draw.below(3) as usize];
    let mut time = || Ps(draw.below(most));
    let (first, slice, last) = (time(), Ps(1 + time().0), time());
    let early = time();
    let (attend, merge) = (Ps(1 + time().0), time());
    let mut message = || Message {
        stream: time(),
        latency: time(),
    };
    let (query, rest, output) = (message(), message(), message());
    let overlap = draw.below(2) == 0;
    let waiting = match draw.below(3) {
        0 => draw.below(800) as u32,
        _ => 0,
    };
    Layers {
        count: 1 + draw.below(60) as u32,
        first,
        slice,
        last,
        early: if overlap { early } else { Ps::ZERO },
        query,
        rest: overlap.then_some(rest),
        attend,
        merge: if overlap { merge } else { Ps::ZERO },
        output,
        waiting,
    }
}

/// Ends of iterations: each batch begins its next a little after the one before.
fn run(shape: Shape, work: &[Vec<(Layers, Ps)>], jump: bool) -> (Vec<(usize, Ps)>, u64) {
    let mut pipeline = Pipeline::new(shape);
    pipeline.jump = jump;
    let mut next = vec![0; shape.batches];
    let mut ends = Vec::new();
    for (batch, iterations) in work.iter().enumerate() {
        let (layers, wait) = iterations[0];
        pipeline.start(batch, Iteration::Layers(layers), wait);
    }
    while let Some(ended) = pipeline.advance(Ps::NEVER) {
        ends.push((ended.batch, ended.at));
        next[ended.batch] += 1;
        if let Some((layers, wait)) = work[ended.batch].get(next[ended.batch]) {
            pipeline.start(
                ended.batch,
                Iteration::Layers(*layers),
                ended.at.after(*wait),
            );
        }
    }
    (ends, pipeline.events)
}

#[test]
fn what_is_passed_over_changes_nothing() {
    let mut draw = Draw(7);
    let (mut with, mut without) = (0, 0);
    for case in 0..3000 {
        let batches = 1 + draw.below(4) as usize;
        let shape = Shape {
            batches,
            replicas: 1 + draw.below(3) as usize,
            rotate: true,
            stages: 1,
            receive_idle: draw.below(3) == 0,
        };
        let work: Vec<Vec<(Layers, Ps)>> = (0..batches)
            .map(|_| {
                (0..4)
                    .map(|_| (layers(&mut draw), Ps(draw.below(300))))
                    .collect()
            })
            .collect();
        let (jumped, few) = run(shape, &work, true);
        let (plain, many) = run(shape, &work, false);
        assert_eq!(jumped, plain, "case {case}: {shape:?} {work:?}");
        assert_eq!(
            plain.len(),
            4 * batches,
            "case {case}: nothing is left undone"
        );
        with += few;
        without += many;
    }
    // It must have passed over something, or the comparison says nothing.
    assert!(with * 4 < without * 3, "{with} tasks of {without}");
}

fn one(layers: Layers, shape: Shape) -> Vec<Span> {
    let spans = std::cell::RefCell::new(Vec::new());
    let mut pipeline = Pipeline::new(shape);
    pipeline.observe(usize::MAX, |span| spans.borrow_mut().push(span));
    for batch in 0..shape.batches {
        pipeline.start(batch, Iteration::Layers(layers), Ps::ZERO);
    }
    while pipeline.advance(Ps::NEVER).is_some() {}
    drop(pipeline);
    spans.into_inner()
}

fn plain(batches: usize, replicas: usize) -> Shape {
    Shape {
        batches,
        replicas,
        rotate: true,
        stages: 1,
        receive_idle: false,
    }
}

/// The time of a layer of all batches once they have found their rhythm.
fn period(layers: Layers, shape: Shape) -> f64 {
    let spans = one(layers, shape);
    let attends: Vec<&Span> = spans
        .iter()
        .filter(|s| {
            s.unit == Unit::Attention
                && s.batch == 0
                && s.kind == einflow_serving::offload::pipeline::Kind::Attend
        })
        .collect();
    let (a, b) = (attends[100], attends[190]);
    b.end.since(a.end).0 as f64 / 90.0
}

#[test]
fn a_layer_of_all_batches_takes_what_the_busiest_takes() {
    // docs/src/reference/pools.md: max(n t_m / (n - 1), n t_a, t_m + t_a + transfers), for n batches over n - 1 replicas.
    for (n, t_m, t_a, transfer) in [
        (2, 100, 40, 10),
        (2, 40, 100, 10),
        (2, 50, 50, 30),
        (3, 100, 50, 1),
        (3, 100, 20, 10),
        (3, 30, 100, 0),
        (4, 90, 30, 5),
        (4, 90, 29, 200),
    ] {
        let message = Message {
            stream: Ps(0),
            latency: Ps(transfer),
        };
        let layers = Layers {
            count: 200,
            first: Ps(t_m),
            slice: Ps(t_m),
            last: Ps(t_m),
            query: message,
            attend: Ps(t_a),
            output: message,
            ..Layers::default()
        };
        let n_f = n as f64;
        let (m, a) = (t_m as f64, t_a as f64);
        let expected = (n_f * m / (n_f - 1.0))
            .max(n_f * a)
            .max(m + a + 2.0 * transfer as f64);
        let found = period(layers, plain(n, n - 1));
        // A rhythm of several layers ends off by one of them over 90.
        assert!(
            (found / expected - 1.0).abs() < 0.012,
            "n {n} t_m {t_m} t_a {t_a}: {found} {expected}"
        );
    }
}

#[test]
fn a_replica_is_slower_while_it_waits_for_the_output_of_the_other_batch() {
    let message = Message {
        stream: Ps(0),
        latency: Ps(100),
    };
    let layers = Layers {
        count: 1,
        first: Ps(1000),
        slice: Ps(0),
        last: Ps(1000),
        query: message,
        attend: Ps(200),
        output: message,
        waiting: 250,
        ..Layers::default()
    };
    // The first slice of batch 0 ends at 1000: its output is there at 1400. Until then batch 1 does 400 / 1.25 = 320 of its 1000, the
    // rest by 2080; its output is there at 2480, and the last slice of batch 0 does 320 until then, and the rest by 3160.
    let spans = one(layers, plain(2, 1));
    let of = |batch, layer| {
        let slice = |s: &&Span| s.unit == Unit::Replica(0) && s.batch == batch && s.layer == layer;
        let span = spans.iter().find(slice).map(|s| (s.start.0, s.end.0));
        span.unwrap_or_default()
    };
    assert_eq!(of(0, 0), (0, 1000));
    assert_eq!(of(1, 0), (1000, 2080));
    assert_eq!(of(0, 1), (2080, 3160));
    assert_eq!(of(1, 1), (3160, 4160));
    // One batch waits for none but itself.
    let alone = one(layers, plain(1, 1));
    assert_eq!(alone.last().map(|s| s.end.0), Some(2400));
}
