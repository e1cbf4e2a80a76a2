//! The analytic engine: one evaluation of the 12-Einsum +Binding mapping, binding it, and validation.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use einflow_engine::analytic;
use einflow_engine::{catalog::Catalog, request::Request};

fn request(mapping: &str, length: u64) -> Request {
    Request {
        model: Some("bert".into()),
        length: Some(length),
        mapping: mapping.into(),
        ..Request::default()
    }
}

fn benches(c: &mut Criterion) {
    let catalog = Catalog::new();
    for (name, length) in [("1K", 1 << 10), ("1M", 1 << 20), ("16M", 1 << 24)] {
        let mapped = request("fusemax-binding", length)
            .bind(&catalog)
            .expect("the shipped mapping is legal");
        c.bench_function(&format!("count +Binding, {name}"), |b| {
            b.iter(|| analytic::count(black_box(&mapped)))
        });
        c.bench_function(&format!("report +Binding, {name}"), |b| {
            b.iter(|| analytic::evaluate(black_box(&mapped)))
        });
    }
    for mapping in ["fusemax-binding", "flat"] {
        let request = request(mapping, 1 << 16);
        c.bench_function(&format!("bind {mapping}, 64K"), |b| {
            b.iter(|| black_box(&request).bind(&catalog))
        });
    }
    let causal = request("fusemax-causal", 1 << 20)
        .bind(&catalog)
        .expect("the shipped mapping is legal");
    c.bench_function("count causal, 1M", |b| {
        b.iter(|| analytic::count(black_box(&causal)))
    });
    c.bench_function("validate, fast set", |b| {
        b.iter(|| einflow::validate::run(&[], false))
    });
}

criterion_group! {
    name = all;
    config = Criterion::default().sample_size(20);
    targets = benches
}
criterion_main!(all);
