//! The cycle engine: tasks a second, BERT at 1M tokens from the file to the report, and the jump where both ways end.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use einflow::runs::RunFile;
use einflow_engine::{
    catalog::Catalog,
    request::{Engine, Request},
};
use einflow_engine::{cycle, events::Unseen};
use rayon::prelude::*;

fn request(mapping: &str, length: u64) -> Request {
    Request {
        model: Some("bert".into()),
        length: Some(length),
        mapping: mapping.into(),
        engine: Engine::Cycle,
        ..Request::default()
    }
}

fn benches(c: &mut Criterion) {
    let catalog = Catalog::new();
    let mapped = request("fusemax-binding", 1 << 10)
        .bind(&catalog)
        .expect("the shipped mapping is legal");
    let tasks = cycle::run(&mapped, false, &mut Unseen).map_or(0, |r| r[0].totals.tasks);
    let mut group = c.benchmark_group("+Binding, 1K");
    group.throughput(Throughput::Elements(tasks));
    group.bench_function("every task", |b| {
        b.iter(|| cycle::run(black_box(&mapped), false, &mut Unseen))
    });
    group.bench_function("with the jump", |b| {
        b.iter(|| cycle::run(black_box(&mapped), true, &mut Unseen))
    });
    group.finish();
    c.bench_function("+Binding, 1M, from the files on", |b| {
        b.iter(|| request("fusemax-binding", 1 << 20).run(&Catalog::new()))
    });
    for (name, length) in [("64K", 1 << 16), ("1M", 1 << 20)] {
        c.bench_function(&format!("causal, {name}"), |b| {
            b.iter(|| request("fusemax-causal", length).run(&Catalog::new()))
        });
    }
    let all = RunFile::load("all").expect("the shipped comparison is valid");
    c.bench_function("five configurations, four models, six lengths", |b| {
        b.iter(|| {
            let catalog = Catalog::new();
            let run = |r: &Request| {
                let mut r = r.clone();
                r.engine = Engine::Cycle;
                r.run(&catalog).is_ok()
            };
            all.requests().par_iter().filter(|r| run(r)).count()
        })
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(10);
    targets = benches
}
criterion_main!(all);
